"""Small ONNX models for scripts/fuzz.py: what mutations begin from. Each takes x, float32 (n, 3, 8, 8)."""

_BODIES = (
    "c = Conv<pads=[1,1,1,1]>(x, w1) n = BatchNormalization(c, v, b, b, v) r = Relu(n) "
    "y = MaxPool<kernel_shape=[2,2]>(r)",
    "c = Conv<pads=[1,1,1,1]>(x, w1, b) k = Clip(c, low, high) d = Conv<group=4, pads=[1,1,1,1]>(k, w3) y = Add(k, d)",
    "c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1) u = ConvTranspose<strides=[2,2]>(c, t) "
    "e = Conv<pads=[1,1,1,1]>(x, w1) j = Concat<axis=1>(u, e) g = GlobalAveragePool(j) y = Reshape(g, s)",
    "c = Conv<pads=[1,1,1,1]>(x, w1) z = Resize<mode=\"nearest\">(c, , scales) a = AveragePool<kernel_shape=[2,2], "
    "strides=[2,2]>(z) p, q = Split<axis=1>(a, halves) f = Softmax<axis=1>(p) y = Mul(f, q)",
    "m1 = MatMul(x, m) p = Transpose<perm=[0,2,1,3]>(m1) e = LeakyRelu(p) h = Sigmoid(e) z = Mul(e, h) "
    "a = ReduceMean<axes=[2,3], keepdims=0>(z) y = Slice(a, starts, ends, axes)",
    "qx = QuantizeLinear(x, scale, zero) dx = DequantizeLinear(qx, scale, zero) "
    "qw = QuantizeLinear<axis=0>(w1, ws, wz) "
    "dw = DequantizeLinear<axis=0>(qw, ws, wz) c = Conv(dx, dw, b) r = Relu(c) qr = QuantizeLinear(r, scale, zero) "
    "dr = DequantizeLinear(qr, scale, zero) y = Conv(dr, w2)",
    "c = Conv<pads=[1,1,1,1]>(x, w1) h = Shape(c) d = Gather<axis=0>(h, i) e = ConstantOfShape(d) f = Flatten(e) "
    "o = Conv(c, w2) g = Gather<axis=1>(o, i) y = Identity(g)",
)  # fmt: skip


def small() -> list[bytes]:
    """A conv with and without Q/DQ."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    scale = [
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
        numpy_helper.from_array(np.array(0, np.int8), "z"),
    ]
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    conv = helper.make_node("Conv", ["d", "w"], ["c"], "conv")
    pair = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq")]  # fmt: skip
    tail = [helper.make_node("Relu", ["c"], ["r"], "relu"), helper.make_node("Add", ["r", "d"], ["y"], "add")]
    graphs = [helper.make_graph([*pair, conv, *tail], "g", values[:1], values[1:], [*scale, weight])]
    plain = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    graphs.append(helper.make_graph([plain], "g", values[:1], values[1:], [weight]))
    made = [helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=8) for g in graphs]
    return [bytes(model.SerializeToString()) for model in made]


def networks() -> list[bytes]:
    """The same, and what else vision networks hold: pools, norms, branches, shapes, Q/DQ on weights, a subgraph."""
    import numpy as np
    from onnx import numpy_helper, parser

    rng = np.random.default_rng(0)
    weights = {
        "w1": (4, 3, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 1, 3, 3), "w4": (4, 6), "b": (4,), "v": (4,),
        "t": (4, 4, 2, 2), "m": (8, 8),
    }  # fmt: skip
    whole = {"s": [1, -1], "flat": [0, -1], "ends": [4], "starts": [0], "axes": [1], "halves": [2, 2], "i": [0, 2]}
    tensors = {name: np.abs(rng.normal(size=shape)).astype(np.float32) for name, shape in weights.items()}
    tensors |= {name: np.array(values, np.int64) for name, values in whole.items()}
    tensors |= {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    tensors |= {
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    found = small()
    for body in _BODIES:
        text = f'<ir_version: 8, opset_import: ["": 17]> g (float[n,3,8,8] x) => (float y) {{ {body} }}'
        model = parser.parse_model(text)
        used = {name for node in model.graph.node for name in node.input}
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items() if n in used)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        found.append(bytes(model.SerializeToString()))
    return found
