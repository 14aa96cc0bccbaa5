"""Index: an ONNX graph with its makers and readers, scales as arrays, and the few edits that fixes need."""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from quantbench.graph.onnx_view import view_of
from quantbench.graph.ops import DEQUANTIZE, QUANTIZE
from quantbench.graph.order import sort_nodes
from quantbench.graph.subgraphs import captures
from quantbench.graph.view import GraphView
from quantbench.predict.versions import Version, version_of
from quantbench.qdq.record import recorded


class Index:
    """Lookups over `model`, which fixes edit in place; call `refresh` after an edit.

    `version`: the TensorRT that advice is for, by default the best known. `chosen`: what the placement rules recorded.
    `view`: the model's, where it is there already.
    """

    def __init__(self, model: onnx.ModelProto, version: Version | None = None, view: GraphView | None = None) -> None:
        self.model = model
        self.version = version if version is not None else version_of("")
        self.view = view or view_of(model)
        self.chosen = recorded(model)
        self.refresh()

    def refresh(self) -> None:
        """Rebuild the lookups after an edit."""
        graph = self.model.graph
        self.makers: dict[str, NodeProto] = {out: node for node in graph.node for out in node.output if out}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            # What bodies of If and Loop read counts as read by their node; no edit reaches in there.
            for name in dict.fromkeys((*node.input, *captures(node))):
                if name:
                    self.readers.setdefault(name, []).append(node)
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}

    def nodes(self, *ops: str) -> Iterator[NodeProto]:
        """Nodes of the given operators, in order."""
        return (node for node in list(self.model.graph.node) if node.op_type in ops)

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """Value of an initializer, None for what is none."""
        tensor = self.initializers.get(name)
        return numpy_helper.to_array(tensor) if tensor is not None else None

    def scale(self, node: NodeProto) -> NDArray[np.float64] | None:
        """Scale of a Q or DQ; None where it is no constant."""
        value = self.constant(node.input[1])
        return value.astype(np.float64) if value is not None else None

    def zero_point(self, node: NodeProto) -> NDArray[np.generic] | None:
        """Zero point of a Q or DQ; None where it has none."""
        return self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None

    def levels(self, node: NodeProto) -> str:
        """Type of the quantized values of a Q or DQ, "INT8". Without a zero point or a type ONNX means UINT8."""
        stored = self.constant(node.input[0]) if node.op_type == DEQUANTIZE else self.zero_point(node)
        if stored is not None:
            return str(stored.dtype).upper()
        named = next((a.i for a in node.attribute if a.name == "output_dtype" and node.op_type == QUANTIZE), 0)
        return TensorProto.DataType.Name(named) if named else ""

    def is_weight(self, tensor: str) -> bool:
        """Whether `tensor` is a constant, or made of constants by Q and DQ."""
        while (maker := self.makers.get(tensor)) is not None and maker.op_type in (QUANTIZE, DEQUANTIZE):
            tensor = maker.input[0]
        return tensor in self.initializers

    def nbytes(self, tensor: str) -> int:
        """Bytes of `tensor` in FP32; an unknown first dimension (the batch) counts as 1. 0 where others are unknown."""
        known = self.view.tensors.get(tensor)
        if known is None or known.shape is None or not all(isinstance(dim, int) for dim in known.shape[1:]):
            return 0
        return 4 * math.prod(dim for dim in known.shape if isinstance(dim, int))

    def replace_input(self, node: NodeProto, index: int, tensor: str) -> None:
        """Let input `index` of `node` read `tensor`."""
        node.input[index] = tensor

    def set_scale(self, node: NodeProto, scale: NDArray[np.float64]) -> None:
        """Give a Q or DQ a scale of its own, in the dtype that it had."""
        old = self.constant(node.input[1])
        assert old is not None
        name = f"{node.name}_scale_by_lint"
        tensor = numpy_helper.from_array(scale.astype(old.dtype), name)
        if name in self.initializers:
            self.initializers[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self.initializers[name] = self.model.graph.initializer[-1]
        node.input[1] = name
        self.readers.setdefault(name, []).append(node)

    def drop_unread(self) -> None:
        """Remove nodes whose outputs nobody reads, and initializers likewise; keep the order."""
        graph = self.model.graph
        while True:
            self.refresh()
            dead = [i for i, n in enumerate(graph.node) if not any(map(self._needed, n.output))]
            if not dead:
                break
            # By index: `remove` compares messages field by field.
            for index in reversed(dead):
                del graph.node[index]
        for index in [i for i, t in enumerate(graph.initializer) if not self._needed(t.name)][::-1]:
            del graph.initializer[index]
        self.refresh()

    def _needed(self, tensor: str) -> bool:
        return tensor in self.readers or tensor in self.outputs

    def sort(self) -> None:
        """Bring the nodes into an order in which each stands behind what it reads, changing as little as can be."""
        sort_nodes(self.model.graph)
        self.refresh()
