"""Timed layers out of a verbose build log: every kernel that TensorRT timed, with the work it did.

Autotuning lines tell strides but no sizes and no kernel windows; those come from the parser's lines on the ONNX
nodes that the layer's name holds. Times are of tactics: one kernel alone, its input warm in the cache.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from quantbench.graph.ops import MATRIX
from quantbench.graph.ops import WEIGHTED as WEIGHTED_OPS
from quantbench.inspection.logs.build_log import Build, BuildLog, LogNode
from quantbench.inspection.logs.tactics import Choice
from quantbench.latency.kernel import kernel_of
from quantbench.latency.layout import Strided, parse_strided
from quantbench.latency.work import FREE, OPAQUE, WEIGHTED, Conv, Work, conv_work, kind_of
from quantbench.layers.layer import BYTES_PER_ELEMENT, Layer
from quantbench.layers.names import split_parts

_RESHAPED = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Resize", "MaxPool", "AveragePool"})
_FIRST_SIZE = re.compile(r"[=:+]?(\d{1,18})x\d+")
_CLONE = re.compile(r"_clone_\d+$")
_EDGE = re.compile(r"^Optimizer Reformat\((?P<source>.*) -> (?P<target>.*)\)$")


@dataclass(frozen=True, slots=True)
class Timed:
    """One time in ms of one layer's work. `tile` of its kernel and `math` where its name tells them; `best`: the
    fastest of its block."""

    work: Work
    ms: float
    tile: tuple[int, int] | None = None
    math: str = ""
    best: bool = True
    line: int = 0
    winograd: bool = False


def timings_of_log(log: BuildLog) -> list[Timed]:
    """All timed kernels of all builds of `log` whose work is known, in the order of the log."""
    found: list[Timed] = []
    for build in log.builds:
        batch = batch_of(log, build)
        choices = sorted((*build.tactics.choices, *build.tactics.edges), key=lambda c: c.line)
        for choice in choices:
            work = work_of_choice(choice, build, batch)
            if work is not None and work.kind not in FREE and work.kind not in OPAQUE:
                found.extend(_rows(choice, work))
    return found


def _rows(choice: Choice, work: Work) -> Iterator[Timed]:
    times = choice.times or ((choice.best,) if choice.best is not None else ())
    for index, timing in enumerate(times):
        if timing.time_ms <= 0:
            continue
        kernel = kernel_of(timing.kernel)
        yield Timed(work, timing.time_ms, kernel.tile, kernel.math, index == 0, choice.line, kernel.winograd)


def batch_of(log: BuildLog, build: Build) -> int:
    """Batch that TensorRT timed with: the optimum of a dynamic first dimension, else the first node's own."""
    for key in ("opt", "Input inference shape", "Input build shape"):
        text = log.options.get(key, "") if key != "opt" else _opt_shapes(log.command)
        sizes = _FIRST_SIZE.findall(text)
        if sizes and any(_first(node) < 0 for node in build.nodes.values()):
            return int(sizes[len(sizes) // 2])
    return next((size for node in build.nodes.values() if (size := _first(node)) > 0), 1)


def _opt_shapes(command: str) -> str:
    found = re.search(r"--(?:optShapes|shapes)=(\S+)", command)
    return found.group(1) if found else ""


def _first(node: LogNode) -> int:
    """First dimension of a node's first input of at least three, 0 where there is none."""
    return next((dims[0] for _, dims, _ in node.inputs[:1] if len(dims) > 2), 0)


def work_of_choice(choice: Choice, build: Build, batch: int) -> Work | None:
    """The work that `choice` timed, None where its sizes are not in the log."""
    sources, targets = parse_strided(choice.inputs), parse_strided(choice.outputs)
    if not sources or not targets or choice.best is None:
        return None
    kind = kind_of(Layer(name=choice.layer, type=choice.best.runner))
    nodes = [build.nodes[p] for p in split_parts(choice.layer) if p in build.nodes]
    weighted = product_nodes(choice.layer, build)
    if kind in WEIGHTED or (weighted and kind in ("other", "gemm")):
        return product_work(choice.layer, kind, weighted, (sources, targets), batch)
    dims = _filled(_dims_of(choice, build, nodes), batch)
    if nodes and dims and not any(_holds(dims, side, batch) for side in (sources[0], targets[0])):
        # A node's first input may be another tensor, as a scale's own constant.
        dims = ()
    return _moved(kind, sources, targets, dims if dims and min(dims) > 0 else (), batch)


def _dims_of(choice: Choice, build: Build, nodes: Sequence[LogNode]) -> tuple[int, ...]:
    """Sizes of the tensor that a layer moves, by the name of the tensor or of its node; () where neither is known.

    Strides alone mislead: into a concat they are those of the whole, and vectorized ones are padded.
    """
    edge = _EDGE.match(choice.layer)
    if edge:
        names = [n for n in (edge["source"], edge["target"]) if n not in ("<in>", "<out>")]
    else:
        names = [choice.layer.removesuffix(" copy")]
        if names[0] != choice.layer:
            copied = _concat_input(names[0], build)
            if copied:
                return copied
        if nodes and nodes[0].inputs and nodes[0].op not in _RESHAPED:
            return nodes[0].inputs[0][1]
    return next((build.tensors[n] for n in names if n in build.tensors), ())


def _concat_input(name: str, build: Build) -> tuple[int, ...]:
    """Sizes of the tensor that is copied into a concat, by the copy's name: node, tensor, which clone."""
    plain = _CLONE.sub("", name)
    return next(
        (
            dims
            for node in build.nodes.values()
            if node.op == "Concat" and plain.startswith(f"{node.name}_")
            for tensor, dims, _ in node.inputs
            if tensor == plain[len(node.name) + 1 :]
        ),
        (),
    )


def _moved(
    kind: str, sources: Sequence[Strided], targets: Sequence[Strided], dims: tuple[int, ...], batch: int
) -> Work:
    """Work of a layer that moves bytes. Sizes by `dims` for tensors that hold as much, else by strides."""
    first, last = sources[0], targets[0]
    if dims and kind in ("reformat", "pointwise"):
        read, written = first.format.nbytes(dims) * len(sources), last.format.nbytes(dims)
        elements, channels = math.prod(dims), dims[1] if len(dims) > 1 else dims[0]
    else:
        read = sum(_nbytes(s, batch) for s in sources)
        written = sum(_nbytes(t, batch) for t in targets)
        inner, outer = math.prod(first.sizes) * batch, math.prod(last.sizes) * batch
        elements = min(inner, outer) if kind == "reformat" else max(inner, outer)
        if kind == "reformat" and inner != outer and min(inner, outer) > 0:
            # One side is a part of a larger tensor: both move what the smaller holds.
            read, written = read * elements / inner, written * elements / outer
        channels = dims[1] if len(dims) > 1 else (first.sizes[0] if first.sizes else 1)
    return Work(kind, first.format, last.format, read=read, written=written, elements=float(elements),
                channels=max(channels, 1))  # fmt: skip


def _holds(dims: tuple[int, ...], tensor: Strided, batch: int) -> bool:
    """Whether a tensor of `dims` is at least half as large as the strides of `tensor` say."""
    return 2 * tensor.format.nbytes(dims) >= _nbytes(tensor, batch)


def _nbytes(tensor: Strided, batch: int) -> float:
    """Bytes from strides: channels are already padded to the vector there."""
    return batch * math.prod(tensor.sizes) * BYTES_PER_ELEMENT.get(tensor.format.dtype, 4)


def product_nodes(layer: str, build: Build) -> list[LogNode]:
    """ONNX nodes with weights that the layer's name holds."""
    return [build.nodes[p] for p in split_parts(layer) if p in build.nodes and build.nodes[p].op in WEIGHTED_OPS]


def product_work(
    layer: str,
    kind: str,
    nodes: Sequence[LogNode],
    sides: tuple[Sequence[Strided], Sequence[Strided]],
    batch: int,
) -> Work | None:
    """Work of a product in the formats of `sides`, its sizes from the parser's lines on its ONNX nodes."""
    sources, targets = sides
    nodes = [n for n in nodes if len(n.inputs) > 1 and n.outputs]
    if not nodes:
        return None
    node = nodes[0]
    x, w, y = node.inputs[0][1], node.inputs[1][1], node.outputs[0][1]
    x, y = _filled(x, batch), _filled(y, batch)
    if not x or not w or not y or any(d <= 0 for d in (*x, *w, *y)):
        return None
    common = replace(_moved(kind, sources, targets, (), x[0]), kind="gemm" if node.op in MATRIX else kind,
                     channels=x[1] if len(x) > 1 else x[-1])  # fmt: skip
    if node.op in MATRIX:
        n, k = y[-1], x[-1]
        if len(w) == 2:
            m, groups = math.prod(y) // n, 1
        else:
            m, groups = y[-2], math.prod(y[:-2])
        size = BYTES_PER_ELEMENT.get(common.source.dtype, 4)
        return replace(common, m=m, n=n, k=k, groups=groups, weights=float(math.prod(w)) * size)
    joined = " || " in layer
    window = math.prod(w[2:])
    shrunk = x[2] / y[2] if len(x) > 2 and len(y) > 2 else 1.0
    stride = max(1, round(1 / shrunk if kind == "deconv" else shrunk))
    if kind == "deconv":
        n, groups = w[1], 1
        k = max(1, round(w[0] * window * math.prod(x[2:]) / max(math.prod(y[2:]), 1)))
    else:
        n = sum(other.inputs[1][1][0] for other in nodes) if joined else w[0]
        groups = max(1, x[1] // max(w[1], 1))
        k = w[1] * window
    return conv_work(common, Conv(m=y[0] * math.prod(y[2:]), n=n, k=k, groups=groups, window=math.isqrt(window),
                     stride=stride, residual=len(sources) > 1, first=_nbytes(sources[0], x[0])))  # fmt: skip


def _filled(dims: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return (batch, *dims[1:]) if dims and dims[0] < 0 else dims
