"""The compiler's builds run beside the evaluation: same engine, quiet while latency is timed, nothing left running."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantbench.compilation import builds, stage
from quantbench.compilation.request import CompileRequest
from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.ptq import measure, pipeline, stages
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest
from quantbench.records.compiled import Compiled
from quantbench.records.run import PtqRun

RTX = CompileRequest("tensorrt-rtx", BuildOptions(targets=("sm86",)))


def children() -> int:
    """Processes that this one has started and not reaped."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return sum(len((task / "children").read_text().split()) for task in tasks.iterdir())


def until(count: int) -> None:
    """Wait for so many, which a thread starts."""
    for _ in range(1500):
        if children() == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{children()} children, not {count}")


def compiled(home: Path, name: str, latency: bool = False) -> PtqRun:
    request = PtqRequest(
        ModelChoice(str(home / "m.onnx")), DataChoice(home / "data"), calibrator="minmax", latency=latency,
        out=home / name, threads=1, compile=RTX,
    )  # fmt: skip
    return pipeline.run_ptq(request, Progress("none"))[1]


def test_the_same_engine_and_a_quiet_machine_for_latency(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []

    def counting(name: str, real: Callable[..., Any], count: int) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            until(before + count) if count else None
            assert children() == before + count
            passed.append(name)
            return real(*given, **more)

        return counted

    starts: list[str] = []

    def noting(side: builds.Side, *given: Any) -> Any:
        starts.append(side.what)
        return started(side, *given)

    before, started = children(), builds.started
    with monkeypatch.context() as patch:
        patch.setattr(builds, "started", noting)
        patch.setattr(stages, "calibrating", counting("calibration", stages.calibrating, 1))
        patch.setattr(stages, "layers_of", counting("layers", stages.layers_of, 2))
        patch.setattr(measure, "interleaved", counting("latency", measure.interleaved, 0))
        beside = compiled(home, "beside", latency=True)
    assert passed == ["calibration", "layers", "latency"]
    assert starts == ["float", "INT8"]
    with monkeypatch.context() as patch:
        patch.setattr(stage, "may_run_beside", lambda chosen, options: False)
        in_turn = compiled(home, "in turn")
    engines = [hashlib.sha256((home / name / "model.engine").read_bytes()).digest() for name in ("beside", "in turn")]
    assert engines[0] == engines[1]
    for run in (beside, in_turn):
        assert isinstance(run.compiled, Compiled)
        assert run.compiled.model_copy(update={"seconds": 0.0}) == beside.compiled.model_copy(update={"seconds": 0.0})
        assert run.stages["compile"].provenance.seconds >= run.compiled.seconds - 0.05
    assert beside.stages["compile"].key == in_turn.stages["compile"].key
    again = compiled(home, "beside", latency=True)  # nothing is built again
    assert again.stages == beside.stages


def test_what_fails_meanwhile_ends_the_builds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()

    def failing(*given: Any) -> Any:
        until(before + 2)
        raise QuantbenchError("no")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "layers_of", failing)
        with pytest.raises(QuantbenchError, match="no"):
            compiled(home, "run")
    assert children() == before
    assert isinstance(compiled(home, "run").compiled, Compiled)
