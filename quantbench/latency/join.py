"""From predicted layers to works: the one place where the predictor's layers meet the latency model.

A prediction tells INT8 formats (CHW32, CHW4); float formats are chosen by TensorRT's timing, so the usual ones stand
in: channels innermost where kernels of tensor cores take them, CHW32 beside INT8 layers, linear elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from quantbench.latency.gpus import Specs
from quantbench.latency.layout import Format
from quantbench.latency.work import FREE, WEIGHTED, Work, kind_of, work_of
from quantbench.layers.categories import is_leftover_qdq
from quantbench.layers.layer import BYTES_PER_ELEMENT, Layer, LayerTensor

_PARTS = {"conv": "convolutions", "depthwise": "convolutions", "deconv": "convolutions", "gemm": "matrix products",
          "reformat": "reformats", "pointwise": "pointwise", "pool": "pooling", "myelin": "Myelin"}  # fmt: skip
_SHORT = {"linear": "kLINEAR", "chw32": "CHW32", "hwc8": "HWC8", "hwc4": "HWC4"}
Part = tuple[str, str, Work]


def works_of_prediction(layers: Sequence[Layer], specs: Specs, *, fp16: bool, batch: int = 1) -> tuple[list[Part], int]:
    """(name, part, work) of each kernel at `batch` (that of the model counts as 1 where it is dynamic), and how many
    layers have unknown shapes.

    Reformats at the network's borders, which TensorRT adds for layouts that it chose, are added here.
    """
    float_type = "FP16" if fp16 and specs.capability not in ("6.1",) else "FP32"
    made = {t.name for layer in layers for t in layer.outputs}
    read = {t.name for layer in layers for t in layer.inputs}
    quantized = any(layer.attributes.get("int8") for layer in layers)
    given = _batch_of(layers, made)
    found: list[Part] = []
    unsized = 0
    for layer in layers:
        kind = kind_of(layer)
        if kind in FREE:
            continue
        shown = _formatted(layer, kind, float_type, specs, quantized)
        part = "Q/DQ left over" if is_leftover_qdq(layer) else _PARTS.get(kind, kind)
        parts = _myelin(shown) if kind == "myelin" else [w for w in [work_of(shown)] if w is not None]
        unsized += not parts
        found.extend((layer.name, part, work) for work in parts)
        if kind in WEIGHTED:
            found.extend(_borders(layer, shown, made, read))
    return [(name, part, _at_batch(work, batch / given)) for name, part, work in found], unsized


def _formatted(layer: Layer, kind: str, float_type: str, specs: Specs, quantized: bool) -> Layer:
    """`layer` with data types and formats of its tensors, dynamic batches as 1."""
    int8 = any(t.dtype == "INT8" for t in (*layer.inputs, *layer.outputs))
    return replace(
        layer,
        inputs=tuple(_tensor(t, kind, float_type, specs, int8, quantized) for t in layer.inputs),
        outputs=tuple(_tensor(t, kind, float_type, specs, int8, quantized) for t in layer.outputs),
        constants=tuple(
            replace(c, dtype=float_type) if c.dtype == "FP32" else c
            for c in layer.constants
            if min(c.dims, default=1) > 0
        ),
    )


def _tensor(tensor: LayerTensor, kind: str, float_type: str, specs: Specs, int8: bool, quantized: bool) -> LayerTensor:
    dims = (1, *tensor.dims[1:]) if tensor.dims and tensor.dims[0] < 0 else tensor.dims
    if tensor.dtype not in ("FP32", "FP16", "BF16"):
        return replace(tensor, dims=dims)
    if len(dims) != 4:
        return replace(tensor, dtype=float_type, dims=dims)
    layout = "linear"
    if int8 or (quantized and kind not in WEIGHTED):
        layout = "chw32" if float_type == "FP16" and dims[1] > 4 else "linear"
    elif float_type == "FP16" and specs.has("FP16") and specs.capability != "6.1":
        layout = "hwc8" if dims[1] > 4 else ("hwc4" if kind in WEIGHTED else "linear")
    elif specs.has("TF32") and dims[1] > 4:
        layout = "hwc4"
    form = Format(float_type, layout)
    return replace(tensor, dtype=float_type, dims=dims, format=_SHORT[layout], vector=form.vector)


def _borders(layer: Layer, shown: Layer, made: set[str], read: set[str]) -> list[Part]:
    """Reformats between a product and the network's own float, linear inputs and outputs."""
    found: list[Part] = []
    edges = [(a, b, True) for a, b in zip(layer.inputs, shown.inputs, strict=True)]
    edges += [(a, b, False) for a, b in zip(layer.outputs, shown.outputs, strict=True)]
    for tensor, formatted, inward in edges:
        outer = tensor.name not in (made if inward else read)
        if not outer or tensor.dtype == "INT8" or len(formatted.dims) != 4 or min(formatted.dims) <= 0:
            continue
        inner, edge = Format(formatted.dtype, formatted.format.lower().removeprefix("k")), Format("FP32", "linear")
        if inner == edge:
            continue
        dims = formatted.dims
        source, target = (edge, inner) if inward else (inner, edge)
        work = Work("reformat", source, target, read=source.nbytes(dims), written=target.nbytes(dims),
                    channels=dims[1], elements=float(math.prod(dims)))  # fmt: skip
        where = "Input" if inward else "Output"
        found.append((f"Reformatting CopyNode for {where} Tensor 0 to {layer.name}", "reformats", work))
    return found


def _myelin(layer: Layer) -> list[Work]:
    """A ForeignNode as its matrix products and what runs between them: norms, activations, sums.

    Products are modelled: kernels of tensor cores on rows of features, as in any convolution with channels innermost.
    What runs between them is a guess, and flagged as one: so many kernels, each of which reads and writes a tensor.
    """
    sized = [t for t in (*layer.inputs, *layer.outputs) if t.dims and min(t.dims) > 0]
    if not sized:
        return []
    dtype = sized[0].dtype
    inside = layer.attributes.get("products_inside")
    rows: list[list[int]] = inside if isinstance(inside, list) else []
    products = [_product(*row, dtype=dtype) for row in rows]
    kernels = layer.attributes.get("kernels_estimated", 1)
    between = max(1, (kernels if isinstance(kernels, int) else 1) - len(products))
    form = Format(dtype, "linear")
    made = [p.written for p in products if p.groups == 1] or [max(form.nbytes(t.dims) for t in sized)]
    moved = sum(made) / len(made)
    rest = Work("myelin", form, form, read=moved, written=moved, elements=moved / BYTES_PER_ELEMENT.get(dtype, 4))
    return [*products, *[rest] * between]


def _product(m: int, n: int, k: int, groups: int, int8: int, *, dtype: str) -> Work:
    """One matrix product, of weights (`groups` 1) or of activations; what it makes is float again."""
    source, target = Format("INT8" if int8 else dtype, "hwc"), Format(dtype, "hwc")
    second = source.nbytes((k, n)) * groups
    work = Work("gemm", source, target, m=m, n=n, k=k, groups=groups, channels=k, read=source.nbytes((m, k)) * groups,
                written=target.nbytes((m, n)) * groups, elements=float(m * max(n, k) * groups))  # fmt: skip
    return replace(work, weights=second) if groups == 1 else replace(work, read=work.read + second)


def _batch_of(layers: Sequence[Layer], made: set[str]) -> int:
    """Batch that the model is exported with; 1 where it is dynamic."""
    sizes = [t.dims[0] for layer in layers for t in layer.inputs if t.name not in made and len(t.dims) == 4]
    return max(1, sizes[0]) if sizes else 1


def _at_batch(work: Work, times: float) -> Work:
    """The same work on `times` as many samples: a product has more rows, attention more products."""
    if times == 1:
        return work
    several = work.kind == "gemm" and work.groups > 1
    rows, groups = (1.0, times) if several or work.kind not in WEIGHTED else (times, 1.0)
    return replace(work, m=max(1, round(work.m * rows)) if work.m else 0,
                   groups=max(1, round(work.groups * groups)) if several else work.groups, read=work.read * times,
                   written=work.written * times, elements=work.elements * times)  # fmt: skip
