"""The one operator table: its rows are ONNX operators, its sets agree, nobody keeps a set of their own."""

import ast
from pathlib import Path

import onnx
import pytest

import quantbench
from quantbench.graph.ops import (
    ACTIVATIONS,
    FUSED,
    FUSED_SHOWN,
    KEEPS_VALUES,
    NATIVE,
    OPERATORS,
    SWAPS,
    SWAPS_SHOWN,
    WEIGHTED,
    Kind,
    keeps_values,
    kind_of,
)
from quantbench.graph.view import GraphView, NodeView, TensorView
from quantbench.qdq.draft import Draft
from quantbench.qdq.ops import passes_int8
from quantbench.qdq.reach import maker, read_quantized
from tests.sources import nodes

PACKAGE = Path(quantbench.__file__).parent
# ONNX has them from opsets on that the installed onnx may not know.
NEWEST = {"Swish", "RMSNormalization"}
CONTRIB = {"SimplifiedLayerNormalization", "SkipLayerNormalization"}


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - NEWEST - CONTRIB))
def test_each_row_is_an_onnx_operator(name: str) -> None:
    assert onnx.defs.has(name)
    assert OPERATORS[name].source


def test_what_is_shown_is_also_done() -> None:
    assert SWAPS_SHOWN <= SWAPS
    assert FUSED_SHOWN <= FUSED
    assert FUSED - {"BatchNormalization"} == ACTIVATIONS
    assert WEIGHTED <= NATIVE


def test_unknown_operators_are_other() -> None:
    assert kind_of("EfficientNMS_TRT") is Kind.OTHER


def test_resize_moves_values_in_nearest_mode_only() -> None:
    assert keeps_values("Resize", {})
    assert not keeps_values("Resize", {"mode": "linear"})
    assert "Resize" not in KEEPS_VALUES


def test_gather_keeps_values_but_no_q_passes_it() -> None:
    """Placement and predictor disagreed: one scale serves both sides of a Gather, yet TensorRT moves no Q past it."""
    gather = NodeView("gather", "Gather", ("x", "index"), ("picked",))
    conv = NodeView("conv", "Conv", ("picked", "w"), ("y",))
    first = NodeView("first", "Relu", ("input",), ("x",))
    view = GraphView((first, gather, conv), {"w": TensorView("w", (8, 8, 1, 1), constant=True)}, ("input",), ("y",))
    draft = Draft()
    draft.quantize(conv, 0, "weighted")
    assert read_quantized(view, draft, "picked")
    assert not passes_int8(gather)
    assert not read_quantized(view, draft, "x")
    found = maker(view, "picked")
    assert found is not None
    assert found.name == "first"


def test_no_module_keeps_operator_classes_of_its_own() -> None:
    """WEIGHTED stood in four places, activations in five sets that differed."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).as_posix() == "graph/ops.py":
            continue
        for node in nodes(file):
            if not isinstance(node, ast.Set | ast.Tuple | ast.List):
                continue
            names = {item.value for item in node.elts if isinstance(item, ast.Constant) and isinstance(item.value, str)}
            if len(names & WEIGHTED) > 1 or len(names & ACTIVATIONS) > 3:
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {sorted(names)}")
    assert not [line for line in found if not line.startswith(OWN)], found


# Names of engine layers, not of ONNX operators.
OWN = ("layers/categories.py",)
