"""Two devices on the same layers."""

from dataclasses import dataclass

from quantbench.latency.device import Device, Estimate
from quantbench.latency.layout import Format
from quantbench.latency.work import Conv, Work, conv_work

# (name, batch, channels, pixels a side of the output, output channels, window): ResNet-50's kinds of layers.
_LAYERS = (
    ("3x3, 64 channels, 56²", 1, 64, 56, 64, 3), ("1x1, 256 to 64, 56²", 1, 256, 56, 64, 1),
    ("3x3, 256 channels, 14²", 1, 256, 14, 256, 3), ("1x1, 1024 to 2048, 7²", 1, 1024, 7, 2048, 1),
    ("3x3, 64 channels, 56², batch 32", 32, 64, 56, 64, 3), ("3x3, 256 channels, 14², batch 32", 32, 256, 14, 256, 3),
    ("3x3, 128 channels, 160²", 1, 128, 160, 128, 3),
)  # fmt: skip
_FORMATS = {"FP32": Format("FP32", "hwc4"), "FP16": Format("FP16", "hwc8"), "INT8": Format("INT8", "chw32")}


@dataclass(frozen=True, slots=True)
class Row:
    """One layer in one precision on both devices; `ratio` is the second's time over the first's."""

    layer: str
    precision: str
    left: Estimate
    right: Estimate

    @property
    def ratio(self) -> float:
        return self.right.us / self.left.us


def compare_devices(left: Device, right: Device) -> list[Row]:
    """Rows of common layers in each precision of which both devices have timed products."""
    return [
        Row(name, dtype, left.estimate(work), right.estimate(work))
        for name, *sizes in _LAYERS
        for dtype, form in _FORMATS.items()
        if dtype in left.dtypes & right.dtypes
        for work in [_conv(form, *sizes)]
    ]


def _conv(form: Format, batch: int, cin: int, side: int, cout: int, window: int) -> Work:
    dims, out = (batch, cin, side, side), (batch, cout, side, side)
    common = Work("conv", form, form, channels=cin, read=form.nbytes(dims), written=form.nbytes(out),
                  elements=float(batch * max(cin, cout) * side * side))  # fmt: skip
    return conv_work(common, Conv(m=batch * side * side, n=cout, k=cin * window * window, window=window))
