"""For onnxruntime's CPU: quantize what its integer kernels read and write, where integers come in and go on.

TensorRT wants Q at the inputs of layers. onnxruntime makes a kernel of a node whose inputs come from DQ and whose
output goes into Q, and of nothing else (core/optimizer/qdq_transformer/selectors_actions/
qdq_selector_action_transformer.cc: Conv, Gemm, MatMul; Add, Mul; Sigmoid, LeakyRelu, averages; Concat; what moves
values). A conv that writes float computes in float and dequantizes its weights in each run. So every conv writes INT8
here, heads too, and the SiLU, the gate, the sum behind it stay integer. A Gemm or MatMul may write float.

What has no such kernel (a layer norm, GELU, PRelu, a softmax) computes in float, and with it what would only convert
between two of them: an Add of a GELU, a depthwise conv between layer norms.

With `for_onnxruntime`, in place of `head`, `tiny`, `pooling` and `residual`.

Rules:
1. a conv, Gemm or MatMul with stored weights reads INT8, and a conv writes it, behind its ReLU or Clip
2. sums, gates, activations and joins are INT8 where all that they read is made so and something reads them so
3. an average is INT8 where its input is, and a DFL's softmax and conv: the two cost 0.7 ms of 7.7 in float and 0.2 so
4. a gate that is a vector may come from float layers
5. a depthwise conv between float layers stays float, and so does a ConvTranspose, which has no integer kernel

Before and after:
    conv --> sigmoid --> Mul --> conv        conv ==> sigmoid ==> Mul ==> conv
        \\-------------/                          \\=============/
"""

from collections.abc import Iterator

from quantbench.graph.ops import AVERAGES, IDENTITIES, INTEGER_UNARY, MATRIX, WEIGHTED
from quantbench.graph.view import GraphView, NodeView
from quantbench.qdq.draft import Draft
from quantbench.qdq.heads import is_dfl
from quantbench.qdq.ops import is_mover, weight_index
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.plan import INTEGER
from quantbench.qdq.reach import maker
from quantbench.qdq.rules.streams import normalised_streams

RULE = INTEGER
_CLIPS = frozenset({"Relu", "Clip"})


def apply(view: GraphView, draft: Draft, options: PlacementOptions) -> None:
    """Add the sites of all that becomes integer; name what stays float for it."""
    if not options.for_onnxruntime:
        return
    found = _Integers(view, draft)
    found.settle()
    for node in view.nodes:
        if node.name in found.nodes:
            _read(found, node)
            _write(found, node)


def _read(found: "_Integers", node: NodeView) -> None:
    for index in found.read_by(node):
        found.draft.quantize(node, index, RULE)
    if node.op in ("Resize", "Pad"):
        found.draft.share(node.inputs[0], node.outputs[0])


def _write(found: "_Integers", node: NodeView) -> None:
    """Q/DQ before all that reads the output of `node`, so that nothing but a Q does."""
    if node.op in MATRIX:
        return
    for out in node.outputs:
        tensor = found.written(out)
        for reader, index in found.view.readers(tensor):
            if index >= 0 and reader.name not in found.nodes:
                found.draft.quantize(reader, index, RULE)
        if tensor in found.view.outputs:
            found.draft.quantize_output(tensor, found.view.outputs.index(tensor), RULE)


class _Integers:
    """Which nodes become integer."""

    def __init__(self, view: GraphView, draft: Draft) -> None:
        self.view, self.draft = view, draft
        self._folded = frozenset(draft.folded)
        self._softmaxes = {made.name for node in view.nodes if is_dfl(view, node)
                           and (made := maker(view, node.inputs[0])) is not None}  # fmt: skip
        self._streams = normalised_streams(view)
        self.nodes = {node.name: node for node in view.nodes if self._could(node)}

    def settle(self) -> None:
        """Take out what gains nothing, until nothing changes."""
        while True:
            lonely = [node for node in self.nodes.values() if not (self._is_fed(node) and self._is_wanted(node))]
            for node in lonely:
                del self.nodes[node.name]
                if node.op in WEIGHTED:
                    self.draft.kept_float[node.name] = f"{RULE}: a depthwise conv between float layers"
            if not lonely:
                return

    def read_by(self, node: NodeView) -> tuple[int, ...]:
        """Inputs of `node` that are its data."""
        if node.op in WEIGHTED:
            index = weight_index(self.view, node)
            return () if index is None else (1 - index,)
        if node.op == "Concat":
            return tuple(i for i, name in enumerate(node.inputs) if not self._is_stored(name))
        if node.op in ("Add", "Mul"):
            return tuple(i for i, name in enumerate(node.inputs) if not self.view.is_constant(name))
        return (0,)

    def written(self, tensor: str) -> str:
        """Where the Q stands that makes integers of `tensor`: behind the ReLU and what else goes into a Q."""
        while len(self.view.readers(tensor)) == 1 and tensor not in self.view.outputs:
            node = self.view.readers(tensor)[0][0]
            if not self._passes(node):
                break
            tensor = node.outputs[0]
        return tensor

    def _made(self, tensor: str) -> NodeView | None:
        """What computes `tensor`, but for what goes into its Q."""
        node = self.view.producers.get(tensor)
        while node is not None and self._passes(node):
            source = next(name for name in node.inputs if not self.view.is_constant(name))
            if len(self.view.readers(source)) != 1 or source in self.view.outputs:
                return node
            node = self.view.producers.get(source)
        return node

    def _passes(self, node: NodeView) -> bool:
        """Whether `node` goes into the Q behind it: it clips, is folded, or scales by one value."""
        if node.name in self._folded:
            return True
        others = [name for name in node.inputs[1:] if name]
        if node.op in _CLIPS:
            return all(self.view.is_constant(name) for name in others)
        if node.op == "Div":
            return self._is_scalar(node.inputs[1])
        return node.op == "Mul" and any(self._is_scalar(name) for name in node.inputs)

    def _is_scalar(self, name: str) -> bool:
        known = self.view.tensors.get(name)
        shape = known.shape if known is not None and known.constant else None
        return shape is not None and all(size == 1 for size in shape)

    def _could(self, node: NodeView) -> bool:
        """Whether onnxruntime has an integer kernel for `node`."""
        if node.name in self.draft.kept_float or node.name in self._folded or not self._is_data(node):
            return False
        if node.op in WEIGHTED:
            return self._is_layer(node)
        if node.op in ("Add", "Mul"):
            computed = self.read_by(node)
            if len(computed) == 1:
                return node.op == "Add" and self._is_scalar(node.inputs[1 - computed[0]])
            return len(set(node.inputs)) == 2 and node.name not in self._streams
        if node.op == "Concat":
            return len(self.read_by(node)) == len(node.inputs)
        if node.op == "Pad":
            return bool(node.attributes.get("mode", "constant") == "constant")
        if node.op == "Resize":
            return bool(node.attributes.get("mode", "nearest") != "cubic")
        if node.op == "ReduceMean":
            return self._is_spatial(node)
        if node.op == "Softmax":
            return node.name in self._softmaxes
        return node.op in INTEGER_UNARY | AVERAGES or (is_mover(node) and node.op not in IDENTITIES)

    def _is_stored(self, name: str) -> bool:
        return self.view.is_constant(name) and name not in self.view.producers

    def _is_spatial(self, node: NodeView) -> bool:
        """Whether it is a global average over the positions of an image, and all of them."""
        before, after = (self.view.tensors.get(name) for name in (node.inputs[0], node.outputs[0]))
        if before is None or after is None or before.shape is None or after.shape is None or len(before.shape) != 4:
            return False
        return after.shape in (before.shape[:2], (*before.shape[:2], 1, 1))

    def _is_data(self, node: NodeView) -> bool:
        if not node.outputs or any(self.view.is_constant(name) for name in node.outputs if name):
            return False
        known = self.view.tensors.get(node.outputs[0])
        return known is None or known.dtype == "float32"

    def _is_layer(self, node: NodeView) -> bool:
        index = weight_index(self.view, node)
        if index is None or self.view.is_constant(node.inputs[1 - index]):
            return False
        if node.op == "ConvTranspose":
            self.draft.kept_float[node.name] = f"{RULE}: onnxruntime has no integer kernel for ConvTranspose"
        return node.op != "ConvTranspose" and node.inputs[index] not in self.view.producers

    def _is_fed(self, node: NodeView) -> bool:
        if node.op in WEIGHTED or node.op == "Softmax":
            return True
        inputs = [node.inputs[index] for index in self.read_by(node)]
        made = [self._is_made(name) for name in inputs]
        if node.op in ("Add", "Mul"):
            return any(made) and all(self._is_vector(name) for name, is_made in zip(inputs, made, strict=True)
                                     if not is_made)  # fmt: skip
        # An input of the network that is moved first may as well be moved as integers.
        if node.op == "Concat":  # zeros that pad channels are computed from constants
            known = [is_made or self.view.is_constant(name) for name, is_made in zip(inputs, made, strict=True)]
            return any(made) and all(known)
        return all(made) or (is_mover(node) and inputs[0] in self.view.inputs)

    def _is_made(self, tensor: str) -> bool:
        node = self._made(tensor)
        return node is not None and node.name in self.nodes

    def _is_vector(self, tensor: str) -> bool:
        known = self.view.tensors.get(tensor)
        shape = known.shape if known is not None else None
        return shape is not None and len(shape) > 2 and all(size == 1 for size in shape[2:])

    def _is_wanted(self, node: NodeView) -> bool:
        if node.op in AVERAGES or node.op == "Softmax":
            return True
        if node.op == "Add" and all(self._is_made(name) for name in node.inputs):
            return True  # one DQ behind it in place of two before
        if node.op in WEIGHTED and not self._is_depthwise(node):
            return True
        if node.op in WEIGHTED and self._is_made(node.inputs[0]):
            return True
        return any(reader.name in self.nodes for reader in self._readers(node))

    def _readers(self, node: NodeView) -> Iterator[NodeView]:
        for out in node.outputs:
            yield from (reader for reader, _ in self.view.readers(self.written(out)) if out)

    def _is_depthwise(self, node: NodeView) -> bool:
        known = self.view.tensors.get(node.inputs[1])
        shape = known.shape if known is not None and node.op == "Conv" else None
        return shape is not None and len(shape) > 1 and shape[0] not in (1, None) and shape[1] == 1
