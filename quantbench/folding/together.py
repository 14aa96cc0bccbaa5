"""Both methods on one network: what each would do, and the network with some of them carried out."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx

from quantbench.folding.absorb import absorb, scaled_rows
from quantbench.folding.equalize import equalize
from quantbench.folding.fold import fold
from quantbench.folding.sites import Folding, Looked
from quantbench.folding.smooth import smooth
from quantbench.graph.view import GraphView
from quantbench.records.folded import Absorbed, Method

_METHODS = {"equalize": equalize, "smooth": smooth}


def foldings_of(looked: Looked, layers: Collection[str], asked: Sequence[Method]) -> dict[Method, Folding]:
    """What each method that is `asked` for would do for `layers`, the names of the quantized ones."""
    return {method: _METHODS[method](looked, layers) for method in asked}


def carried_out(
    looked: Looked, view: GraphView, layers: Collection[str], foldings: Mapping[Method, Folding]
) -> tuple[onnx.ModelProto, tuple[Absorbed, ...]]:
    """The network with `foldings`, and with equalization the biases that were absorbed after it."""
    channels = looked.channels
    scales = np.prod([np.ones(channels.count), *(folding.scales for folding in foldings.values())], axis=0)
    made = fold(looked.model, channels, scales)
    if "equalize" not in foldings:
        return made, ()
    rows = {
        reader.tensor: scaled_rows(looked.rows[reader.tensor], scales[channels.class_of[reader.ids]])
        for reader in channels.readers
        if reader.tensor in looked.rows
    }
    return absorb(made, view, rows, layers)


def mean_gain(folding: Folding, layers: Collection[str]) -> float:
    """What `folding` takes off the noise of a layer's output, in dB: the mean over `layers`, those included that it
    passes by."""
    return sum(site.gain_db * len(site.readers) for site in folding.sites) / max(len(layers), 1)
