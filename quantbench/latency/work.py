"""What a layer has to do, in the numbers that its time hangs on: a matrix product of M x N x K, or bytes to move.

A convolution is a product of M = batch x output pixels, N = output channels and K = input channels a group x window
(implicit GEMM, as cuDNN and TensorRT's kernels compute it).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantbench.latency.layout import Format, format_of
from quantbench.layers.categories import category
from quantbench.layers.layer import BYTES_PER_ELEMENT, Layer, LayerTensor

WEIGHTED = frozenset({"conv", "depthwise", "deconv", "gemm"})
# Kinds that cost nothing: TensorRT runs no kernel for them.
FREE = frozenset({"noop", "constant", "sync", "host"})
# Kinds whose inner work no log tells.
OPAQUE = frozenset({"myelin", "plugin", "nms", "recurrent", "other"})
# Bytes that memory is read in at least.
_SECTOR = 64
# Channels a step of a kernel's main loop.
_STEPS = {"INT8": 32, "FP16": 32, "FP32": 16}
_KINDS = {"pooling": "pool", "convolution": "conv"}


@dataclass(frozen=True, slots=True)
class Work:
    """One layer's work.

    `kind` is conv, depthwise, deconv, gemm or a category of `layers.categories`; `m`, `n`, `k` the product's sizes a
    group (0 for others); `window` and `stride` of a convolution; `pixels` of its input; `read`, `written` and
    `weights` in bytes, padded as the layout pads; `channels` of the first input; `source`, `target` the formats of
    the first input and output; `residual`: a further tensor is added.
    """

    kind: str
    source: Format
    target: Format
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    window: int = 1
    stride: int = 1
    channels: int = 1
    read: float = 0.0
    written: float = 0.0
    weights: float = 0.0
    residual: bool = False
    elements: float = 0.0

    @property
    def weighted(self) -> bool:
        return self.kind in WEIGHTED

    @property
    def deep(self) -> int:
        """K as the kernel runs it: it steps through the channels of one tap of the window in blocks of 32
        before it takes the next tap, so that 80 channels cost as much as 96.

        First layers, and kernels without tensor cores, pad to the layout's vector only.
        """
        area = self.window * self.window
        if self.kind != "conv" or self.groups > 1 or self.k % area:
            return self.k
        block = self.source.vector
        if not self.stem and self.source.family in ("hwc", "chw32"):
            block = max(block, _STEPS.get(self.source.dtype, 1))
        return -(-(self.k // area) // block) * block * area

    @property
    def small(self) -> bool:
        """A 3 x 3 window of stride 1 in one group: kernels of fewer multiplications (Winograd) may serve it."""
        return self.kind == "conv" and self.window == 3 and self.stride == 1 and self.groups == 1 and self.channels > 4

    @property
    def stem(self) -> bool:
        """A convolution of a network's input: up to four channels, which fill no vector."""
        return self.kind == "conv" and self.channels <= 4 and self.groups == 1

    @property
    def nbytes(self) -> float:
        """Bytes read and written at least once."""
        return self.read + self.written + self.weights

    @property
    def flops(self) -> float:
        """Multiply-adds times two."""
        return 2.0 * self.m * self.n * self.k * self.groups

    @property
    def shape(self) -> tuple[object, ...]:
        """What makes two layers the same work, formats aside: cross-validation leaves these out together."""
        if self.weighted:
            return (self.kind, self.m, self.n, self.k, self.groups, self.window, self.stride, self.residual)
        return (self.kind, self.channels, round(self.elements))

    @property
    def key(self) -> tuple[object, ...]:
        """`shape` with formats: layers of one key take one time."""
        return (*self.shape, *self.formats)

    @property
    def formats(self) -> tuple[Format, Format]:
        """Formats that tell kernels apart. Those with channels innermost run the same ones, however far they are
        padded, but for a network's input, which padding makes larger."""
        if not self.weighted:
            return self.source, self.target
        return self.source if self.stem else self.source.pooled, self.target.pooled

    def in_formats(self, source: Format, target: Format) -> "Work":
        """The same work with other formats at its edges; bytes follow the data types, padding is kept as it was."""

        def scaled(size: float, old: Format, new: Format) -> float:
            return size * BYTES_PER_ELEMENT.get(new.dtype, 4) / BYTES_PER_ELEMENT.get(old.dtype, 4)

        return replace(self, source=source, target=target, read=scaled(self.read, self.source, source),
                       written=scaled(self.written, self.target, target),
                       weights=scaled(self.weights, self.source, source))  # fmt: skip


def work_of(layer: Layer) -> Work | None:
    """The work of a layer of an engine or of a prediction; None where its shapes are unknown.

    Reads TensorRT's attributes (Kernel, Stride, Groups, OutMaps, Weights) and, for predicted layers, those of ONNX.
    """
    kind = kind_of(layer)
    inputs = [t for t in layer.inputs if t.dims]
    outputs = [t for t in layer.outputs if t.dims]
    if not outputs and not inputs:
        return Work(kind, Format(), Format()) if kind in FREE else None
    first, last = (inputs or outputs)[0], (outputs or inputs)[0]
    if any(d < 0 for t in (*inputs, *outputs) for d in t.dims):
        return None
    read, written = _nbytes(inputs), _nbytes(outputs)
    common = Work(
        kind=kind, source=format_of(first), target=format_of(last), read=read, written=written,
        channels=_channels(first.dims), elements=float(max(math.prod(first.dims), math.prod(last.dims))),
    )  # fmt: skip
    if kind not in WEIGHTED:
        return common
    return _weighted(layer, common, inputs, last)


def kind_of(layer: Layer) -> str:
    """Kind of a layer: its category, with convolutions told apart by what they are."""
    found = category(layer)
    lowered = layer.type.lower()
    if "convactpool" in lowered:
        return "conv"
    if found == "convolution":
        if "deconv" in lowered or "transpose" in lowered:
            return "deconv"
        return "conv"
    if found == "pointwise" and lowered == "scale":
        return "pointwise"
    return _KINDS.get(found, found)


def _weighted(layer: Layer, common: Work, inputs: Sequence[LayerTensor], out: LayerTensor) -> Work | None:
    """A product's sizes from the layer's weights and shapes."""
    weights = next((c for c in layer.constants if c.name == "Weights"), None)
    weights = weights or max(layer.constants, key=lambda c: math.prod(c.dims), default=None)
    attributes = layer.attributes
    if common.kind == "gemm" or not inputs or len(inputs[0].dims) < 3 or len(out.dims) < 3:
        return _gemm(common, inputs, out, weights)
    window = [int(w) for w in _pair(attributes, "Kernel", "kernel_shape", "ConvKernel")]
    cin = inputs[0].dims[1]
    strides = [int(s) for s in _pair(attributes, "Stride", "strides", "ConvStride")]
    strides = strides or [max(1, round(inputs[0].dims[2] / max(out.dims[2], 1)))]
    groups = layer.number("Groups", "group", "ConvGroups")
    if not groups:
        deep = weights.dims[1] if weights is not None and len(weights.dims) > 2 and common.kind == "conv" else cin
        groups = max(1, cin // max(deep, 1))
    n = layer.number("OutMaps", "ConvOutMaps") or out.dims[1]
    count = math.prod(weights.dims) if weights is not None else 0
    if not window and weights is not None and len(weights.dims) > 2:
        window = list(weights.dims[2:])
    deep = cin // max(groups, 1)
    k = count // n if count and n and common.kind == "conv" else deep * math.prod(window or [1])
    area = math.prod(window or [1])
    pixels = math.prod(out.dims[2:])
    if layer.type == "CaskConvActPool" or "Pool" in layer.type:
        # The pooled output is smaller than what the convolution computes.
        pixels = math.prod(-(-d // s) for d, s in zip(inputs[0].dims[2:], strides * 2, strict=False))
    m = out.dims[0] * pixels
    if common.kind == "deconv":
        k = max(1, round(deep * area / math.prod(strides * (1 if len(strides) > 1 else 2))))
    return conv_work(common, Conv(m=m, n=n, k=max(k, 1), groups=groups, window=math.isqrt(area), stride=strides[0],
                     residual=len(inputs) > 1, first=common.source.nbytes(inputs[0].dims)))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conv:
    """Sizes of a convolution as a product [m, k] x [k, n]: `n` output channels in all groups together, a square window
    and stride. `first`: bytes of its first input, of which a stride larger than the window leaves a part unread."""

    m: int
    n: int
    k: int
    groups: int = 1
    window: int = 1
    stride: int = 1
    residual: bool = False
    first: float = 0.0


def conv_work(common: Work, conv: Conv) -> Work:
    """`common` with the sizes of `conv`."""
    kind, window, stride, groups = common.kind, conv.window, conv.stride, conv.groups
    if kind == "conv" and stride > window:
        common = replace(common, read=common.read - conv.first * (1 - _touched(common, window / stride)))
    if kind == "conv" and groups > 1 and conv.k // max(window * window, 1) <= 1:
        kind = "depthwise"
    size = BYTES_PER_ELEMENT.get(common.source.dtype, 4)
    return replace(common, kind=kind, m=conv.m, n=max(1, conv.n // groups), k=conv.k, groups=groups, window=window,
                   stride=stride, weights=float(conv.n * conv.k) * size, residual=conv.residual)  # fmt: skip


def _touched(work: Work, share: float) -> float:
    """Share of its input that a convolution reads whose window takes `share` of its stride.

    Rows are skipped in every layout, pixels only where one of them fills a sector of memory.
    """
    source = work.source
    together = work.channels if source.family == "hwc" else source.vector
    pixel = together * BYTES_PER_ELEMENT.get(source.dtype, 4)
    return share * share if pixel >= _SECTOR else share


def _gemm(common: Work, inputs: Sequence[LayerTensor], out: LayerTensor, weights: LayerTensor | None) -> Work | None:
    """M and N from the output; K from the first input, or the weights' count over N."""
    if not inputs or not out.dims:
        return None
    pixels = [d for d in out.dims if d != 1] or [1]
    two = weights is None and len(inputs) > 1 and len(inputs[1].dims) >= 2
    n = out.dims[-1] if len(out.dims) != 4 or out.dims[2:] != (1, 1) else out.dims[1]
    m = max(1, math.prod(out.dims) // max(n, 1))
    if weights is not None:
        k = max(1, math.prod(weights.dims) // max(n, 1))
        loads = float(math.prod(weights.dims)) * BYTES_PER_ELEMENT.get(common.source.dtype, 4)
    else:
        k = inputs[0].dims[-1]
        loads = 0.0
    batch = math.prod(out.dims[:-2]) if two and len(inputs[1].dims) > 2 else 1
    return replace(common, kind="gemm", m=max(1, m // batch), n=n, k=k, groups=batch, weights=loads,
                   residual=bool(pixels) and weights is not None and len(inputs) > 1)  # fmt: skip


def _pair(attributes: Mapping[str, Any], *names: str) -> list[Any]:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, (list, tuple)) and value:
            return list(value)
    return []


def _nbytes(tensors: Sequence[LayerTensor]) -> float:
    return sum(format_of(t).nbytes(t.dims) for t in tensors)


def _channels(dims: tuple[int, ...]) -> int:
    return dims[1] if len(dims) > 1 else (dims[0] if dims else 1)
