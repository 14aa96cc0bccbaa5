"""What both methods share: a look at the network and its activations, and the best scales of a method's sites."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import Feed
from quantbench.folding.channels import Channels, Site
from quantbench.folding.choose import best_scales
from quantbench.folding.fold import Scales
from quantbench.folding.layer_error import layers_of
from quantbench.folding.rough_error import rough_layers_of
from quantbench.folding.rows import FEW_ROWS, ROWS, Rows, Samples, known_shapes, rows_of, shapes_of
from quantbench.folding.walk import find_channels
from quantbench.graph.ops import CONVS
from quantbench.graph.view import GraphView
from quantbench.records.folded import FoldedSite, Method, PassedBy

# Of a layer that takes scales: judging it needs its weight a few times over, 128 MB each.
_MOST_WEIGHTS = 1 << 25


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A float network, its channels, and rows of the tensors whose channels can be scaled; `roughly`: few rows, which
    layers are judged by as `quantbench.folding.rough_error` does."""

    model: onnx.ModelProto
    channels: Channels
    rows: dict[str, Rows]
    roughly: bool = False

    def swapped(self) -> "Looked":
        """The same with the halves of the samples swapped."""
        return replace(self, rows={name: rows.swapped() for name, rows in self.rows.items()})


def channels_of(
    model: onnx.ModelProto, view: GraphView, open_feeds: Callable[[], Iterable[Feed]], *, threads: int = 0
) -> Channels:
    """The channels of the float `model` (its `view`). It is run on the first sample of the feeds where shape inference
    does not tell all shapes, or what the file says of them does not fit together."""
    first = next(iter(open_feeds()), None)
    if first is None:
        return find_channels(model, view, {})
    shapes = known_shapes(model, view, first)
    if shapes is not None:
        with contextlib.suppress(ValueError, IndexError):
            return find_channels(model, view, shapes)
    return find_channels(model, view, shapes_of(model, view, first, threads=threads))


def look(
    model: onnx.ModelProto,
    channels: Channels,
    layers: Collection[str],
    samples: Samples,
    *,
    roughly: bool = False,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Looked:
    """Run the float `model` over calibration samples, where `channels` can be scaled that one of `layers`, the
    quantized ones, reads."""
    read = [reader for site in channels.sites for reader in site.readers if reader.node.name in layers]
    axes = {reader.tensor: reader.axis for reader in read}
    axes |= {bound.tensor: bound.axis for site in channels.sites for bound in site.bounds if axes}
    rows: dict[str, Rows] = {}
    if axes:
        most = FEW_ROWS if roughly else ROWS
        rows = rows_of(model, axes, samples.opened, samples.count, rows=most, threads=threads, on_batch=on_batch)
    return Looked(model, channels, rows, roughly)


@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """What `method` would do: scales of all classes (1 where it does nothing), the sites that they belong to, and the
    layers that it passed by."""

    method: Method
    scales: Scales
    sites: tuple[FoldedSite, ...]
    passed_by: tuple[PassedBy, ...]


def folding_of(
    looked: Looked, layers: Collection[str], method: Method, is_its: Callable[[Site], bool], alphas: Sequence[float]
) -> Folding:
    """The sites of `looked` that are a method's, each with its best alpha for those of its readers that are in
    `layers`, the quantized ones."""
    channels = looked.channels
    scales = np.ones(channels.count)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in looked.model.graph.initializer}
    sites = []
    for site in channels.sites:
        readers = [reader for reader in site.readers if reader.node.name in layers]
        if any(np.prod(sizes[reader.node.inputs[1]]) > _MOST_WEIGHTS for reader in readers):
            continue
        of_them = rough_layers_of if looked.roughly else layers_of
        known = of_them(looked.model, readers, looked.rows) if readers and is_its(site) else []
        if not known:
            continue
        found = best_scales(channels, site, known, looked.rows, alphas)
        if found.alpha is None:
            continue
        scales[site.classes] = found.scales
        sites.append(
            FoldedSite(
                method=method,
                makers=tuple(dict.fromkeys(maker.node.name for maker in site.makers)),
                readers=tuple(reader.node.name for reader in readers),
                alpha=found.alpha,
                gain_db=round(found.gain_db, 2),
                spread=round(float(found.scales.max() / found.scales.min()), 2),
            )
        )
    passed_by = tuple(
        PassedBy(method=method, node=pinned.node, reason=pinned.reason)
        for pinned in channels.refused
        if pinned.node in layers and (pinned.op in CONVS) == (method == "equalize")
    )
    return Folding(method, scales, tuple(sites), passed_by)
