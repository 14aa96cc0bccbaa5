"""Parts of a page out of a run folder: layers of the predicted engine, ranges of tensors, error over depth."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantbench.calibration.histogram import Histogram, shares
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.store import load_histograms
from quantbench.errors import QuantbenchError
from quantbench.layers.layer import Layer
from quantbench.predict.prediction import Prediction
from quantbench.records.evaluation import LayerError
from quantbench.records.facts import RangeFacts
from quantbench.report.page.data import Depth, LayerRow, RangeRow
from quantbench.text_file import read_object

_BINS = 128
_MOST_RANGES = 24


def layer_rows(
    prediction: Prediction, errors: Sequence[LayerError], ms: Mapping[str, Sequence[float]], quantizers: Set[str]
) -> tuple[LayerRow, ...]:
    """One row a predicted layer; `ms` holds by device the milliseconds of each layer, `quantizers` are names of Q and
    DQ nodes."""
    sqnr = {error.node: error.sqnr_db for error in errors}
    why = {item.node: f"{item.reason}; {item.mend}" for item in (*prediction.float_weighted, *prediction.float_outputs)}
    rows = []
    for index, layer in enumerate(prediction.layers):
        known = [value for node in layer.nodes if (value := sqnr.get(node)) is not None]
        rows.append(
            LayerRow(
                id=index,
                name=layer.name,
                label=" + ".join(node for node in layer.nodes if node not in quantizers) or layer.name,
                type=layer.type,
                nodes=layer.nodes,
                takes=layer.inputs[0].dtype if layer.inputs else "-",
                gives=layer.outputs[0].dtype if layer.outputs else "-",
                bytes=_bytes(layer),
                ms={device: values[index] for device, values in ms.items() if index < len(values)},
                sqnr=min(known) if known else None,
                why=next((why[node] for node in layer.nodes if node in why), ""),
                reformat=layer.type == "Reformat",
            )
        )
    return tuple(rows)


def _bytes(layer: Layer) -> int:
    """Bytes of all tensors; an unknown dimension (the batch) counts as one."""
    tensors = (*layer.inputs, *layer.outputs, *layer.constants)
    return sum(replace(tensor, dims=tuple(max(d, 1) for d in tensor.dims)).nbytes or 0 for tensor in tensors)


def edges_of(layers: Sequence[Layer]) -> tuple[tuple[int, int, str], ...]:
    """(writer, reader, dtype) for each tensor between two layers; of a concat in place every writer counts."""
    writers: dict[str, list[tuple[int, str]]] = {}
    for index, layer in enumerate(layers):
        for tensor in layer.outputs:
            writers.setdefault(tensor.name, []).append((index, tensor.dtype))
    found = {
        (source, index): dtype
        for index, layer in enumerate(layers)
        for tensor in layer.inputs
        for source, dtype in writers.get(tensor.name, ())
        if source < index
    }
    return tuple((source, target, dtype) for (source, target), dtype in found.items())


def depth_of(errors: Iterable[LayerError], order: Sequence[str]) -> tuple[Depth, ...]:
    """Errors in the order of the graph's nodes; layers without one are left out."""
    place = {name: index for index, name in enumerate(order)}
    known = [error for error in errors if error.sqnr_db is not None and error.node in place]
    known.sort(key=lambda error: place[error.node])
    return tuple(Depth(e.node, round(e.sqnr_db, 2), _op(e)) for e in known if e.sqnr_db is not None)


def range_rows(folder: Path, facts: Sequence[RangeFacts] = ()) -> tuple[RangeRow, ...]:
    """The tensors whose thresholds clip most, then those whose range is most unlike their values; empty where the run
    kept no histograms. `facts`: ranges as the model has them, which may share scales."""
    known = {found.tensor: found for found in facts}
    try:
        ranges = Ranges.from_json(read_object(folder / "ranges.json"))
        histograms, _ = load_histograms(folder / ".quantbench" / "histograms.npz")
    except (OSError, ValueError, KeyError, QuantbenchError):
        return ()
    rows = [
        _range_row(name, ranges[name], known.get(name), histogram)
        for name, histogram in histograms.items()
        if name in ranges and histogram.total and np.isfinite(histogram.amax) and histogram.amax > 0
    ]
    rows.sort(key=lambda row: (-row.clipped, -_hollow(row)))
    return tuple(rows[:_MOST_RANGES])


def _range_row(name: str, found: TensorRange, facts: RangeFacts | None, histogram: Histogram) -> RangeRow:
    amax = facts.amax if facts is not None else found.amax
    made = shares(histogram, amax)
    few = histogram.levels().reshape(_BINS, -1).sum(axis=1)
    return RangeRow(
        tensor=name,
        amax=amax,
        most=histogram.amax,
        clipped=made.clipped,
        zero=made.zero,
        counts=tuple(round(float(count)) for count in few),
        method=found.method,
    )


def _hollow(row: RangeRow) -> float:
    """Share of the range that holds a thousandth of the values: an outlier stretches it over nothing."""
    counts = np.array(row.counts, np.float64)
    above = np.cumsum(counts[::-1])[::-1] / max(counts.sum(), 1.0)
    return float((above < 1e-3).mean())


def _op(error: LayerError) -> str:
    return f"{error.op} + {error.behind}" if error.behind else error.op
