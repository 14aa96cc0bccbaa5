"""ViT-B/16 as ModelOpt quantizes it with only its linears in INT8 (onnxsim/onnxsim@5208cea, scripts/nvidia)."""

from quantbench.graph.view import GraphView
from tests.predict.qdq_networks import Draft

_TOKENS, _WIDTH, _HEADS, _DEPTH = 197, 768, 12, 12


class _Vit(Draft):
    """A Draft with the parts of a transformer."""

    def constant(self, name: str, *shape: int) -> str:
        return self.tensor(name, shape, constant=True)

    def linear(self, x: str, name: str, out: int, quantized: str = "") -> str:
        """MatMul of quantized input and weights, and its bias."""
        source = quantized or self.qdq(x, f"{name}.q", f"{name}.dq", x)
        weights = self.weights(f"{name}.weight", (self.shape(x)[-1], out), f"{name}.wq", f"{name}.wdq")
        product = self.node("MatMul", [source, weights], (*self.shape(x)[:-1], out), f"{name}.matmul")
        return self.node("Add", [product, self.constant(f"{name}.bias", out)], self.shape(product), f"{name}.add")

    def norm(self, x: str, name: str) -> str:
        parameters = [self.constant(f"{name}.{p}", _WIDTH) for p in "wb"]
        return self.node("LayerNormalization", [x, *parameters], self.shape(x), name, axis=-1)

    def heads(self, x: str, name: str, quantized: str, *, transposed: bool = False) -> str:
        """One of query, key and value, by heads."""
        size = _WIDTH // _HEADS
        y = self.linear(x, name, _WIDTH, quantized)
        y = self.node("Reshape", [y, self.constant(f"{name}.s", 4)], (1, _TOKENS, _HEADS, size), f"{name}.r")
        shape, order = ((1, _HEADS, size, _TOKENS), (0, 2, 3, 1)) if transposed else ((1, _HEADS, _TOKENS, size),
                                                                                      (0, 2, 1, 3))  # fmt: skip
        return self.node("Transpose", [y], shape, f"{name}.t", perm=order)

    def attention(self, x: str, block: str) -> str:
        quantized = self.qdq(x, f"{block}.qkv.q", f"{block}.qkv.dq", x)
        q, v = (self.heads(x, f"{block}.{name}", quantized) for name in "qv")
        k = self.heads(x, f"{block}.k", quantized, transposed=True)
        a = self.node("MatMul", [q, k], (1, _HEADS, _TOKENS, _TOKENS), f"{block}.qk")
        a = self.node("Mul", [a, self.constant(f"{block}.scale")], self.shape(a), f"{block}.mul")
        a = self.node("Softmax", [a], self.shape(a), f"{block}.softmax", axis=-1)
        a = self.node("MatMul", [a, v], self.shape(q), f"{block}.av")
        a = self.node("Transpose", [a], (1, _TOKENS, _HEADS, _WIDTH // _HEADS), f"{block}.at", perm=(0, 2, 1, 3))
        a = self.node("Reshape", [a, self.constant(f"{block}.as", 3)], (1, _TOKENS, _WIDTH), f"{block}.ar")
        return self.linear(a, f"{block}.proj", _WIDTH)


def vit_b() -> tuple[GraphView, dict[str, str]]:
    """The view and the scales of its quantizers."""
    d = _Vit()
    x = d.tensor("input", (1, 3, 224, 224))
    x = d.node("Conv", [x, d.constant("patch.weight", _WIDTH, 3, 16, 16)], (1, _WIDTH, 14, 14), "patch",
               kernel_shape=(16, 16), strides=(16, 16), pads=(0,) * 4, group=1)  # fmt: skip
    x = d.node("Reshape", [x, d.constant("flat", 3)], (1, _WIDTH, 196), "patches")
    x = d.node("Transpose", [x], (1, 196, _WIDTH), "tokens", perm=(0, 2, 1))
    x = d.node("Concat", [d.constant("cls", 1, 1, _WIDTH), x], (1, _TOKENS, _WIDTH), "with_cls", axis=1)
    x = d.node("Add", [x, d.constant("pos", 1, _TOKENS, _WIDTH)], d.shape(x), "with_pos")
    for i in range(_DEPTH):
        block = f"block{i}"
        y = d.attention(d.norm(x, f"{block}.ln1"), block)
        x = d.node("Add", [y, x], d.shape(x), f"{block}.res1")
        y = d.linear(d.norm(x, f"{block}.ln2"), f"{block}.fc1", 4 * _WIDTH)
        y = d.node("Gelu", [y], d.shape(y), f"{block}.gelu")
        x = d.node("Add", [d.linear(y, f"{block}.fc2", _WIDTH), x], d.shape(x), f"{block}.res2")
    x = d.node("Gather", [d.norm(x, "ln"), d.constant("zero")], (1, _WIDTH), "pick", axis=1)
    return d.view(("input",), (d.linear(x, "head", 1000),)), d.scales
