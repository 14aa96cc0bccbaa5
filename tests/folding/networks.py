"""Small networks as ONNX text, with weights by chance."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

from quantbench.graph.load import prepared_model

SEED = 0


def network(text: str, **weights: tuple[int, ...] | np.ndarray) -> onnx.ModelProto:
    """The body `text` of a graph from x to y (`onnx.parser`), `weights` of these shapes or values."""
    random = np.random.default_rng(SEED)
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> {text}')
    for name, given in weights.items():
        values = (
            given if isinstance(given, np.ndarray) else random.normal(size=given) / max(1, np.prod(given[1:])) ** 0.5
        )
        dtype = np.int64 if values.dtype.kind == "i" else np.float32
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
    return prepared_model(model, "network")


def convs() -> onnx.ModelProto:
    """Depthwise, grouped and transposed convs, ReLUs, a residual stream with a pad of its channels, pooling, a joined
    branch, pixel shuffle, and a Gemm at the end."""
    return network(
        """net (float[N, 3, 16, 16] x) => (float[N, 10] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
            r = Relu (a)
            d = Conv <pads = [1, 1, 1, 1], group = 8> (r, w1)
            e = LeakyRelu <alpha = 0.1> (d)
            p = Conv (e, w2, b2)
            s = Add (p, r)
            m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
            wide = Pad (m, pads)
            g = Conv <group = 2> (wide, w3, b3)
            t = Add (g, wide)
            u = PRelu (t, slope)
            left = ConvTranspose <strides = [2, 2], kernel_shape = [2, 2]> (u, w4, b4)
            up = Resize <mode = "nearest"> (u, , factors)
            both = Concat <axis = 1> (left, up)
            moved = SpaceToDepth <blocksize = 2> (both)
            c = Conv (moved, w5, b5)
            first, second = Split <axis = 1> (c, halves)
            h = Add (first, second)
            f = Relu (h)
            mean = GlobalAveragePool (f)
            flat = Flatten (mean)
            y = Gemm <transB = 1> (flat, w6, b6)
        }""",
        w0=(8, 3, 3, 3), b0=(8,), w1=(8, 1, 3, 3), w2=(8, 8, 1, 1), b2=(8,), pads=np.array([0, 0, 0, 0, 0, 4, 0, 0]),
        w3=(12, 6, 1, 1), b3=(12,), slope=np.full((12, 1, 1), 0.2), w4=(12, 6, 2, 2), b4=(6,),
        factors=np.array([1.0, 1, 2, 2]), w5=(16, 72, 1, 1), b5=(16,), halves=np.array([8, 8]), w6=(10, 8), b6=(10,),
    )  # fmt: skip


def tokens() -> onnx.ModelProto:
    """Two pre-norm blocks on tokens: LayerNorm in one node and in parts, q, k and v in one Linear, a ReLU in the MLP,
    and a gated one behind an RMS norm in parts."""
    return network(
        """net (float[N, 6, 16] x) => (float[N, 6, 16] y) {
            n = LayerNormalization <axis = -1> (x, gain, move)
            qkv = MatMul (n, w0)
            biased = Add (b0, qkv)
            split = Reshape (biased, heads)
            turned = Transpose <perm = [2, 0, 3, 1, 4]> (split)
            q = Gather <axis = 0> (turned, zero)
            k = Gather <axis = 0> (turned, one)
            v = Gather <axis = 0> (turned, two)
            kt = Transpose <perm = [0, 1, 3, 2]> (k)
            scores = MatMul (q, kt)
            p = Softmax <axis = -1> (scores)
            o = MatMul (p, v)
            back = Transpose <perm = [0, 2, 1, 3]> (o)
            joined = Reshape (back, together)
            projected = MatMul (joined, w1)
            x1 = Add (x, projected)
            mean = ReduceMean <axes = [-1]> (x1)
            centred = Sub (x1, mean)
            square = Mul (centred, centred)
            variance = ReduceMean <axes = [-1]> (square)
            root = Sqrt (variance)
            normed = Div (centred, root)
            scaled = Mul (normed, gain2)
            n2 = Add (scaled, move2)
            wide = MatMul (n2, w2)
            active = Relu (wide)
            narrow = MatMul (active, w3)
            x2 = Add (x1, narrow)
            square2 = Mul (x2, x2)
            mean2 = ReduceMean <axes = [-1]> (square2)
            root2 = Sqrt (mean2)
            normed2 = Div (x2, root2)
            n3 = Mul (gain3, normed2)
            gate = MatMul (n3, w4)
            sigmoid = Sigmoid (gate)
            silu = Mul (gate, sigmoid)
            up = MatMul (n3, w5)
            gated = Mul (silu, up)
            down = MatMul (gated, w6)
            y = Add (x2, down)
        }""",
        gain=1 + np.arange(16) / 8, move=(16,), w0=(16, 48), b0=(48,), heads=np.array([0, 6, 3, 2, 8]),
        zero=np.array(0), one=np.array(1), two=np.array(2), together=np.array([0, 6, 16]), w1=(16, 16),
        gain2=1 + np.arange(16) / 4, move2=(16,), w2=(16, 32), w3=(32, 16), gain3=2 - np.arange(16) / 16,
        w4=(16, 32), w5=(16, 32), w6=(32, 16),
    )  # fmt: skip
