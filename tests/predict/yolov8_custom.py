"""The YOLOv8 with ReLU, quantized Adds and extra heads whose 8.4 build log the seed quotes, rebuilt as far as the log
names it. Scales follow the rule of its exporter: convs that read what a Concat reads share the Concat's scale."""

import re

from quantbench.graph.view import GraphView
from tests.predict.qdq_networks import Draft


class _Model:
    def __init__(self) -> None:
        self.d = Draft()
        self.scale_of: dict[str, str] = {}

    def quantize(self, x: str, path: str) -> str:
        scale = self.scale_of.get(path, x)
        return self.d.qdq(x, f"{path}/QuantizeLinear", f"{path}/DequantizeLinear", scale)

    def conv(self, x: str, path: str, out: int, kernel: int, stride: int = 1, quantized: bool = True) -> str:
        """conv + bn + relu; without Q/DQ the exporter has folded the bn."""
        d = self.d
        n, c, h, w = d.shape(x)
        shape = (n, out, (h + stride - 1) // stride, (w + stride - 1) // stride)
        geometry = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (kernel // 2,) * 4}
        dotted = re.sub(r"/(cv\w+\.\d)/\1", r"/\1", path).replace("/model/", "model.model.").replace("/", ".")
        if quantized:
            x = self.quantize(x, f"{path}/conv/_input_quantizer")
            weights = d.weights(f"{dotted}.conv.weight", (out, c, kernel, kernel),
                                f"{path}/conv/_weight_quantizer/QuantizeLinear",
                                f"{path}/conv/_weight_quantizer/DequantizeLinear")  # fmt: skip
        else:
            weights = d.tensor(f"{dotted}.conv.weight", (out, c, kernel, kernel), constant=True)
        y = d.node("Conv", [x, weights], shape, f"{path}/conv/Conv", **geometry)
        if quantized:
            y = d.bn(y, f"{path}/bn/BatchNormalization")
        return d.node("Relu", [y], shape, f"{path}/act/Relu")

    def concat(self, inputs: list[str], path: str) -> str:
        n, _, h, w = self.d.shape(inputs[0])
        return self.d.node("Concat", inputs, (n, sum(self.d.shape(x)[1] for x in inputs), h, w), path, axis=1)

    def c2f(self, x: str, path: str, out: int, shortcut: bool) -> str:
        d, shared = self.d, f"{path}/Concat"
        for reader in ("cv2/conv/_input_quantizer", "m.0/cv1/conv/_input_quantizer",
                       "m.0/addop/_input0_quantizer", "m.0/addop/_input1_quantizer"):  # fmt: skip
            self.scale_of[f"{path}/{reader}"] = shared
        y = self.conv(x, f"{path}/cv1", out, 1)
        n, _, h, w = d.shape(y)
        halves = [d.node("Slice", [y], (n, out // 2, h, w), f"{path}/{s}") for s in ("Slice", "Slice_1")]
        z = self.conv(self.conv(halves[1], f"{path}/m.0/cv1", out // 2, 3), f"{path}/m.0/cv2", out // 2, 3)
        if shortcut:
            left = self.quantize(halves[1], f"{path}/m.0/addop/_input0_quantizer")
            right = self.quantize(z, f"{path}/m.0/addop/_input1_quantizer")
            z = d.node("Add", [left, right], d.shape(z), f"{path}/m.0/addop/Add")
        return self.conv(self.concat([*halves, z], f"{path}/Concat"), f"{path}/cv2", out, 1)

    def sppf(self, x: str, path: str, out: int) -> str:
        y = self.conv(x, f"{path}/cv1", out // 2, 1)
        pools = [y]
        for name in ("m/MaxPool", "m_1/MaxPool", "m_2/MaxPool"):
            pools.append(self.d.node("MaxPool", [pools[-1]], self.d.shape(y), f"{path}/{name}"))
        return self.conv(self.concat(pools, f"{path}/Concat"), f"{path}/cv2", out, 1)

    def up(self, x: str, path: str) -> str:
        n, c, h, w = self.d.shape(x)
        return self.d.node("Resize", [x], (n, c, 2 * h, 2 * w), path, mode="nearest")


def yolov8_custom() -> tuple[GraphView, dict[str, str]]:
    """The view and a scale key for each Q and DQ."""
    m = _Model()
    m.scale_of["/model/backbone5/conv/_input_quantizer"] = "/model/head14/Concat"
    m.scale_of["/model/head15/cv1/conv/_input_quantizer"] = "/model/head14/Concat"
    m.scale_of["/model/backbone7/conv/_input_quantizer"] = "/model/head11/Concat"
    m.scale_of["/model/head12/cv1/conv/_input_quantizer"] = "/model/head11/Concat"
    x = m.d.tensor("images", (1, 3, 640, 960))
    x = m.conv(x, "/model/backbone0", 32, 3, 2)
    x = m.conv(x, "/model/backbone1", 64, 3, 2)
    x = m.c2f(x, "/model/backbone2", 64, True)
    x = m.conv(x, "/model/backbone3", 128, 3, 2)
    p3 = m.c2f(x, "/model/backbone4", 128, True)
    p4 = m.c2f(m.conv(p3, "/model/backbone5", 256, 3, 2), "/model/backbone6", 256, True)
    x = m.c2f(m.conv(p4, "/model/backbone7", 512, 3, 2), "/model/backbone8", 512, True)
    p5 = m.sppf(x, "/model/backbone9", 512)
    n4 = m.c2f(m.concat([m.up(p5, "/model/head10/Resize"), p4], "/model/head11/Concat"), "/model/head12", 256, False)
    n3 = m.c2f(m.concat([m.up(n4, "/model/head13/Resize"), p3], "/model/head14/Concat"), "/model/head15", 128, False)
    down = m.concat([m.conv(n3, "/model/head16", 128, 3, 2), n4], "/model/head17/Concat")
    m4 = m.c2f(down, "/model/head18", 256, False)
    down = m.concat([m.conv(m4, "/model/head19", 256, 3, 2), p5], "/model/head20/Concat")
    m5 = m.c2f(down, "/model/head21", 512, False)
    outputs = [_head(m, x, level) for level, x in enumerate((n3, m4, m5))]
    return m.d.view(("images",), tuple(o for level in outputs for o in level)), m.d.scales


# Which first convs of the head carry Q/DQ, per level, as the log's `Merging layers` lines tell.
_QUANTIZED = ({"cv_occ", "cv3", "cv2"}, {"cv_occ", "cv3"}, {"cv_occ", "cv2"})


def _head(m: _Model, x: str, level: int) -> list[str]:
    outputs = []
    for branch in ("cv_occ", "cv3", "cv2", "cv4"):
        path = f"/model/taskhead22/{branch}.{level}/{branch}.{level}"
        y = m.conv(x, f"{path}.0", 64, 3, quantized=branch in _QUANTIZED[level])
        y = m.conv(y, f"{path}.1", 64, 3, quantized=False)
        outputs.append(y)
    return outputs
