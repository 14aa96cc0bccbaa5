"""YOLOv8n as published (layers, widths, strides of its configuration), with Q/DQ before each conv as ModelOpt's
INT8_DEFAULT_CFG places them, each with a scale of its own. Weights are none: predictions read names and shapes."""

from quantbench.graph.view import GraphView
from tests.predict.qdq_networks import Draft


class _Yolo(Draft):
    """Blocks of ultralytics' detectors."""

    def conv(self, x: str, name: str, out: int, kernel: int = 3, stride: int = 1, act: bool = True) -> str:
        """Conv, and SiLU unless it is a head's last."""
        n, c, h, w = self.shape(x)
        x = self.qdq(x, f"{name}/Q", f"{name}/DQ", f"{name} scale")
        weights = self.weights(f"{name}.w", (out, c, kernel, kernel), f"{name}/Qw", f"{name}/DQw")
        shape = (n, out, h // stride, w // stride)
        y = self.node("Conv", [x, weights], shape, f"{name}/Conv", kernel_shape=(kernel, kernel),
                      strides=(stride, stride), pads=(kernel // 2,) * 4, group=1)  # fmt: skip
        if not act:
            return y
        return self.node("Mul", [y, self.node("Sigmoid", [y], shape, f"{name}/Sigmoid")], shape, f"{name}/Mul")

    def c2f(self, x: str, name: str, out: int, repeats: int, shortcut: bool) -> str:
        """Split in halves, bottlenecks on the second, all joined."""
        y = self.conv(x, f"{name}.cv1", out, 1)
        half = (1, out // 2, *self.shape(y)[2:])
        parts = [self.node("Slice", [y], half, f"{name}/Split{i}") for i in range(2)]
        for index in range(repeats):
            last = parts[-1]
            z = self.conv(self.conv(last, f"{name}.m{index}.cv1", half[1]), f"{name}.m{index}.cv2", half[1])
            parts.append(self.node("Add", [last, z], half, f"{name}.m{index}/Add") if shortcut else z)
        return self.conv(self.concat(parts, f"{name}/Concat"), f"{name}.cv2", out, 1)

    def concat(self, parts: list[str], name: str) -> str:
        """Along channels."""
        channels = sum(self.shape(part)[1] for part in parts)
        return self.node("Concat", parts, (1, channels, *self.shape(parts[0])[2:]), name, axis=1)

    def up(self, x: str, name: str) -> str:
        """Twice the size."""
        n, c, h, w = self.shape(x)
        return self.node("Resize", [x], (n, c, 2 * h, 2 * w), name)


def yolov8n(size: int = 640, classes: int = 80) -> tuple[GraphView, dict[str, str]]:
    """View and scale keys of the network up to its six output maps: 63 convs."""
    d = _Yolo()
    x = d.conv(d.conv(d.tensor("images", (1, 3, size, size)), "0", 16, stride=2), "1", 32, stride=2)
    x = d.conv(d.c2f(x, "2", 32, 1, True), "3", 64, stride=2)
    p3 = d.c2f(x, "4", 64, 2, True)
    p4 = d.c2f(d.conv(p3, "5", 128, stride=2), "6", 128, 2, True)
    x = d.c2f(d.conv(p4, "7", 256, stride=2), "8", 256, 1, True)
    pools = [d.conv(x, "9.cv1", 128, 1)]
    for index in range(3):
        pools.append(d.node("MaxPool", [pools[-1]], d.shape(pools[0]), f"9/MaxPool{index}"))
    p5 = d.conv(d.concat(pools, "9/Concat"), "9.cv2", 256, 1)
    n4 = d.c2f(d.concat([d.up(p5, "10"), p4], "11"), "12", 128, 1, False)
    o3 = d.c2f(d.concat([d.up(n4, "13"), p3], "14"), "15", 64, 1, False)
    o4 = d.c2f(d.concat([d.conv(o3, "16", 64, stride=2), n4], "17"), "18", 128, 1, False)
    o5 = d.c2f(d.concat([d.conv(o4, "19", 128, stride=2), p5], "20"), "21", 256, 1, False)
    outputs = []
    for index, feature in enumerate((o3, o4, o5)):
        for branch, width, out in (("cv2", 64, 64), ("cv3", max(classes, 64), classes)):
            name = f"22.{branch}.{index}"
            y = d.conv(d.conv(feature, f"{name}.0", width), f"{name}.1", width)
            outputs.append(d.conv(y, f"{name}.2", out, 1, act=False))
    return d.view(("images",), tuple(outputs)), d.scales
