"""How `inspect` reads a compiled engine: with the engine packages of this machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.engines.discover import gpu_present
from quantbench.errors import QuantbenchError
from quantbench.inspection.gather import load_json
from quantbench.inspection.layer_json import read_layer_info, read_own_layers

if TYPE_CHECKING:
    from quantbench.inspection.layer import Layer


def read_engine(path: Path) -> "Sequence[Layer]":
    """Layers of the engine at `path`: those that `quantbench build` or `ptq` left beside it, else, on a machine with
    a GPU, what its own runtime tells of it.

    Raises QuantbenchError where no package on this machine can deserialize it.
    """
    for beside in (path.with_suffix(".layers.json"), path.with_name("layers.json")):
        if beside.exists():
            return read_own_layers(load_json(beside))
    if gpu_present():
        from quantbench.engines.load_engine import load_engine
        from quantbench.engines.tensorrt_layers import layer_information

        return read_layer_info(json.loads(layer_information(load_engine(path)))).layers
    raise QuantbenchError(
        f"{path} is an engine, which only the TensorRT that made it can open; inspect the log of its build, or export "
        "its layers there (trtexec --loadEngine=... --exportLayerInfo=x.json) and inspect those"
    )
