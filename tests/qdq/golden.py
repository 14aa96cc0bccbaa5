"""Golden texts of the placement rules: a network in a few lines, and the plan that it gets.

    x: 1x16x8x8                      an input and its shape
    a = Conv(x, 16x16x3x3) pads=1,1,1,1     a node, its inputs (a shape is a constant) and attributes
      then: b = Conv(x, 16x16x1x1)   a body of the node above, of one node (else:, body: alike)
    -> a                             the outputs
    options: keep_float=a            PlacementOptions, where they differ
    opaque: a                        nodes that nothing here can run
    plan:                            what follows is the golden part

`python tests/qdq/golden.py` writes the plans anew; read the diff.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quantbench.graph.onnx_view import view_of
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan_text import plan_lines

FOLDER = Path(__file__).parent / "golden"
_NODE = re.compile(r"(?P<outputs>[\w, ]+) = (?P<op>\w+)\((?P<inputs>[^)]*)\)(?P<attributes>.*)")
_BODY = re.compile(r"(?P<kind>then|else|body): (?P<node>.*)")
_BODIES = {"then": "then_branch", "else": "else_branch", "body": "body"}
_PATTERNS = ("keep_float", "plugin_int8", "plugin_tensors")
_SHAPE = re.compile(r"\d+(x\d+)*$")


def split(text: str) -> tuple[str, list[str]]:
    """The network of a golden file, and the lines of its plan."""
    network, _, plan = text.partition("plan:\n")
    return network, plan.splitlines()


def planned(network: str) -> list[str]:
    """The plan that the rules make of the network."""
    model, options = parse(network)
    view = replace(view_of(model), opaque=frozenset(_words(network, "opaque:")))
    return list(plan_lines(place(view, options)))


def parse(text: str) -> tuple[onnx.ModelProto, PlacementOptions]:
    """Model of small ones and the options of a golden file."""
    nodes: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    outputs: list[str] = []
    constants: list[onnx.TensorProto] = []
    options = PlacementOptions()
    for line in (line.split("#")[0].strip() for line in text.splitlines()):
        if line.startswith("opaque:"):
            continue
        if line.startswith("options:"):
            options = _options(line.removeprefix("options:"))
        elif match := _BODY.match(line):
            nodes[-1].attribute.append(helper.make_attribute(_BODIES[match["kind"]], _body(match["node"])))
        elif line.startswith("->"):
            outputs += [name.strip() for name in line.removeprefix("->").split(",")]
        elif match := _NODE.match(line):
            read = []
            for position, name in enumerate(filter(None, (part.strip() for part in match["inputs"].split(",")))):
                if _SHAPE.match(name):
                    constant = f"{match['outputs'].split(',')[0]}.{position}"
                    shape = [int(d) for d in name.split("x")]
                    constants.append(numpy_helper.from_array(np.full(shape, 0.01, np.float32), constant))
                    name = constant
                elif name.startswith("["):
                    values = np.asarray([int(v) for v in name.strip("[]").split(";")], np.int64)
                    constants.append(numpy_helper.from_array(values, f"{match['outputs'].split(',')[0]}.{position}"))
                    name = constants[-1].name
                read.append(name)
            made = [name.strip() for name in match["outputs"].split(",")]
            nodes.append(helper.make_node(match["op"], read, made, name=made[0], **_attributes(match["attributes"])))
        elif line:
            name, _, shape_text = line.partition(": ")
            dims = [int(d) for d in shape_text.split("x")]
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "golden", inputs, found, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), options


def _body(text: str) -> onnx.GraphProto:
    """The graph of one node, which reads what is around it."""
    return parse(f"{text}\n-> {text.partition(' = ')[0]}")[0].graph


def _words(network: str, key: str) -> list[str]:
    lines = (line for line in network.splitlines() if line.startswith(key))
    return [word for line in lines for word in line.removeprefix(key).split()]


def _attributes(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in text.split():
        key, _, value = item.partition("=")
        numbers = [int(v) for v in value.split(",")] if re.match(r"-?\d", value) else None
        found[key] = value if numbers is None else (numbers if "," in value else numbers[0])
    return found


def _options(text: str) -> PlacementOptions:
    found: dict[str, Any] = {}
    for item in text.split():
        key, _, value = item.partition("=")
        found[key] = (value,) if key in _PATTERNS else value == "True" if value in ("True", "False") else int(value)
    return PlacementOptions(**found)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.txt")):
        network, _ = split(path.read_text(encoding="utf-8"))
        path.write_text("\n".join([f"{network}plan:", *planned(network), ""]), encoding="utf-8")
