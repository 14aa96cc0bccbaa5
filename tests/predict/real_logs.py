"""Verbose Q/DQ build logs that no licence lets be committed: read where they lie, else the tests skip."""

import json
import lzma
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from quantbench.graph.view import GraphView
from quantbench.inspection.layer_json import read_layer_info
from quantbench.inspection.logs.build_log import Build, LayerDump, read_build_log
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from quantbench.predict.topology import scales_of_log, view_from_log

FOLDER = Path(__file__).parents[3] / "shared" / "logs-nolicence"
LOGS = {
    "backbone": "bevfusion_camera.backbone_RTX3080Ti_trt8.6.0_int8fp16",
    "fuser": "bevfusion_fuser_RTX3080Ti_trt8.6.0_int8fp16",
    "rtdetr": "rtdetrv2_int8qdq_RTX4090_trt10.9_fp16",
}


@dataclass(frozen=True)
class RealLog:
    """A log, the network that it parsed, and what is predicted of it for its version."""

    version: str
    build: Build
    view: GraphView
    prediction: Prediction


@cache
def real_log(name: str) -> RealLog:
    """The log of `LOGS`, with the layers of the JSON beside it where the log itself lists none."""
    path = FOLDER / f"{LOGS[name]}_build.log.xz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not at hand")
    log = read_build_log(path)
    build = log.build
    if not build.layers:
        beside = next(p for p in FOLDER.glob(f"{LOGS[name]}_*.json.xz") if "profile" not in p.name)
        layers = read_layer_info(json.loads(lzma.decompress(beside.read_bytes()), strict=False)).layers
        build.dumps.append(LayerDump(0, "Layers:", tuple(layers)))
    view = view_from_log(build)
    prediction = predict(view, version=log.version, scales=scales_of_log(view, build))
    return RealLog(log.version, build, view, prediction)
