"""How `inspect` reads a compiled engine that has no layers beside it: with the engine packages of this machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantbench.engines.discover import gpu_present
from quantbench.errors import QuantbenchError
from quantbench.inspection.layer_json import read_layer_info

if TYPE_CHECKING:
    from quantbench.layers.layer import Layer


def read_engine(path: Path, plugins: "Sequence[Path]" = ()) -> "Sequence[Layer]":
    """Layers of the engine at `path`, as its own runtime tells them on a machine with a GPU; `plugins` are
    libraries that it needs.

    Raises QuantbenchError where no package on this machine can deserialize it.
    """
    if gpu_present():
        from quantbench.engines.load_engine import load_engine
        from quantbench.engines.tensorrt_layers import layer_information

        return read_layer_info(json.loads(layer_information(load_engine(path, plugins=plugins)))).layers
    raise QuantbenchError(
        f"{path} is an engine, which only the TensorRT that made it can open, on its GPU; inspect the log of its "
        f"build, keep {path.stem}.layers.json or {path.stem}.build.log beside it (quantbench build writes both), or "
        f"export its layers there: trtexec --loadEngine={path.name} --profilingVerbosity=detailed "
        f"--exportLayerInfo={path.stem}.graph.json"
    )
