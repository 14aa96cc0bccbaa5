"""Models that no parser of NVIDIA's is given, since it may die of them: those that every other command refuses too."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from quantbench.graph.check_edges import check_edges
from quantbench.graph.check_lists import check_lists
from quantbench.graph.check_nodes import check_nodes


def refuse_broken(model: onnx.ModelProto, name: str) -> None:
    """Raise QuantbenchError for what `load_model` refuses of nodes and what they read, and for `check_lists`; `name`:
    what messages call the model."""
    check_nodes(model, name)
    check_edges(model, name)
    check_lists(model, name)


def refuse_broken_file(path: Path) -> None:
    """`refuse_broken` of the model in `path`, without its external data. What is no ONNX file is for the parser to
    say."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return
    refuse_broken(model, str(path))
