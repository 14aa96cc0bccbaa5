"""Logs and engines that several tests learn from and predict; each is read once a session."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from quantbench.latency.assemble import learn_device
from quantbench.latency.device import Device
from quantbench.latency.from_engine import EngineLayer
from quantbench.latency.prior import Prior
from quantbench.latency.prior_file import shipped_prior
from quantbench.latency.sources import Source, read_sources

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
NO_LICENCE = SHARED / "logs-nolicence"
DATA = ROOT / "tests" / "data" / "latency"
JSON = ROOT / "tests" / "data" / "artefacts" / "json"
A100_ENGINES = {
    "fp32": DATA / "trex_pt_fp32_resnet.onnx.engine.graph.json",
    "fp16": JSON / "trex_pt_fp16_resnet.onnx.engine.graph.json",
    "int8": JSON / "trex_pt_qat_resnet-qat.onnx.engine.graph.json",
    "int8 residual": JSON / "trex_pt_qat-residual_resnet-qat-residual.onnx.engine.graph.json",
}


@pytest.fixture(scope="session")
def prior() -> Prior:
    """What GPUs have in common, as shipped; a test takes the GPU out that it predicts."""
    return shipped_prior()


@pytest.fixture(scope="session")
def a100_log() -> Source:
    return read_sources([DATA / "centerpoint_8503_verbose.log.xz"])[0]


@pytest.fixture(scope="session")
def a100_sources() -> dict[str, Source]:
    return {name: read_sources([path])[0] for name, path in A100_ENGINES.items()}


@pytest.fixture(scope="session")
def a100_engines(a100_sources: dict[str, Source]) -> dict[str, tuple[EngineLayer, ...]]:
    return {name: source.layers for name, source in a100_sources.items()}


@pytest.fixture(scope="session")
def orin_log() -> Source:
    """Kernels and profile of a YOLO on an Orin of four multiprocessors."""
    return read_sources([ROOT / "tests" / "data" / "artefacts" / "logs" / "trt852_qdq_yolo_verbose.log"])[0]


@pytest.fixture(scope="session")
def a100(a100_log: Source, a100_sources: dict[str, Source], prior: Prior) -> Device:
    """The A100 as its log alone and one profile (FP16, for the offset) tell it."""
    kernels = Source(a100_log.names, a100_log.rows, specs=a100_log.specs)
    return learned("a100", [kernels, a100_sources["fp16"]], prior)


def learned(name: str, sources: Sequence[Source], prior: Prior) -> Device:
    """A device learnt from kernels in logs, with profiles for its offset only."""
    return learn_device(name, sources, prior, profiles=False)
