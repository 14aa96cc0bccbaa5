"""Fault 3, the compiler: another version of it, or another GPU where engines are for the one that is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantbench.compilation import stage
from quantbench.compilation.request import CompileRequest
from quantbench.engines.facts import FACTS, ONNXRUNTIME
from quantbench.engines.gpus import Driver, Gpu
from quantbench.progress import Progress
from quantbench.ptq import pipeline, prepare
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.records.facts import StageRecord


def compiled(home: Path) -> StageRecord:
    """The record of the compile stage after one more call, by onnxruntime."""
    request = PtqRequest(
        ModelChoice(str(home / "m.onnx")), DataChoice(home / "data"), calibrator="minmax", latency=False,
        out=home / "compiled", threads=1, compile=CompileRequest("onnxruntime"),
    )  # fmt: skip
    _, record = pipeline.run_ptq(request, Progress("none"))
    return record.stages["compile"]


def test_another_compiler_or_gpu_builds_anew_and_the_same_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(home)
    assert compiled(home).provenance == first.provenance
    assert first.provenance.versions[ONNXRUNTIME]

    real = prepare.check_request

    def newer(wanted: CompileRequest) -> Any:
        chosen = real(wanted)
        return replace(chosen, version="99.1") if chosen is not None else None

    monkeypatch.setattr(prepare, "check_request", newer)
    second = compiled(home)
    assert second.key != first.key
    assert second.provenance.versions[ONNXRUNTIME] == "99.1"

    # As TensorRT does, whose engines are for the GPU that they were built on.
    facts = {**FACTS, ONNXRUNTIME: replace(FACTS[ONNXRUNTIME], builds_without_gpu=False)}
    monkeypatch.setattr(stage, "FACTS", facts)
    keys = []
    for name in ("one GPU", "another GPU", "another GPU"):
        monkeypatch.setattr(stage, "find_driver", lambda name=name: Driver("1", (Gpu(name, (9, 0), 1),)))
        keys.append(compiled(home).key)
    assert keys[0] not in (second.key, keys[1])
    assert keys[1] == keys[2]
