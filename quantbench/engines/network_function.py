"""A network written with TensorRT's own API as a model: `file.py:function` fills an INetworkDefinition."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError
from quantbench.load_object import load_object, names_code, user_code

_EDITS = frozenset({"fp16", "bf16", "int8", "best"})


def is_network_function(model: Path) -> bool:
    """Whether `model` names a function in a Python file and no ONNX file."""
    return names_code(str(model))


def plain_path(model: Path) -> Path:
    """A path that files of a build are named after: `net.py:make` becomes `net.make`."""
    source, _, name = str(model).rpartition(":")
    return Path(f"{source.removesuffix('.py')}.{name}") if is_network_function(model) else model


def check(model: Path, options: BuildOptions, title: str, *, typed: bool, from_onnx: bool) -> None:
    """Raise QuantbenchError where there is no such file, and for what needs an ONNX file: a backend that builds nothing
    else (`from_onnx`), or precisions where types come from the network (`typed`) and quantbench would edit the file."""
    source = Path(str(model).rpartition(":")[0])
    if not source.is_file():
        raise QuantbenchError(f"{source} does not exist")
    if from_onnx:
        raise QuantbenchError(f"{title} takes ONNX files alone, and {model} fills a network of TensorRT's")
    asked = sorted(options.precisions & _EDITS)
    if typed and asked:
        raise QuantbenchError(
            f"{title} takes types from the network: --precision {asked[0]} is for "
            f"{plain_path(model).name.rpartition('.')[2]} "
            f"to carry out (network.add_cast, add_quantize, add_dequantize)"
        )


def filled(trt: Any, network: Any, model: Path) -> object:
    """Let the function fill `network`; it gets that, and the TensorRT module where it takes two arguments.
    What it returns must live until the engine is built: numpy arrays of weights are not copied.

    The file is the user's own code and is run. Raises QuantbenchError, with the line, where it fails or marks none.
    """
    function: Callable[..., object] = load_object(str(model))
    if not callable(function):
        raise QuantbenchError(f"{model} is no function")
    wanted = len(inspect.signature(function).parameters)
    with user_code(str(model)):
        kept = function(network, trt) if wanted > 1 else function(network)
    if network.num_outputs == 0:
        raise QuantbenchError(f"{model} marks no output; call network.mark_output(tensor)")
    return kept
