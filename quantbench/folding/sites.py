"""What both methods share: a look at the network and its activations, and the best scales of a method's sites."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from quantbench.calibration.ort_outputs import Feed
from quantbench.folding.channels import Channels, Site
from quantbench.folding.choose import best_scales
from quantbench.folding.fold import Scales
from quantbench.folding.layer_error import layers_of
from quantbench.folding.rows import Rows, rows_of, shapes_of
from quantbench.folding.walk import find_channels
from quantbench.graph.ops import CONVS
from quantbench.graph.view import GraphView
from quantbench.records.folded import FoldedSite, Method, PassedBy


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A float network, its channels, and rows of the tensors whose channels can be scaled."""

    model: onnx.ModelProto
    channels: Channels
    rows: dict[str, Rows]


def look(
    model: onnx.ModelProto,
    view: GraphView,
    open_feeds: Callable[[], Iterable[Feed]],
    count: int,
    *,
    threads: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Looked:
    """Run the float `model` (its `view`) over the `count` calibration samples that `open_feeds` opens."""
    first = next(iter(open_feeds()), None)
    shapes = shapes_of(model, view, first, threads=threads) if first is not None else {}
    channels = find_channels(model, view, shapes)
    axes = {reader.tensor: reader.axis for reader in channels.readers if channels.is_free(reader.ids).any()}
    axes |= {bound.tensor: bound.axis for bound in channels.bounds if channels.is_free(bound.ids).any()}
    rows = rows_of(model, axes, open_feeds, count, threads=threads, on_batch=on_batch) if axes else {}
    return Looked(model, channels, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """What a method would do: scales of all classes (1 where it does nothing), the sites that they belong to, and the
    layers that it passed by."""

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
    sites = []
    for site in channels.sites:
        readers = [reader for reader in site.readers if reader.node.name in layers]
        known = layers_of(looked.model, readers, looked.rows) if readers and is_its(site) else []
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
    return Folding(scales, tuple(sites), passed_by)
