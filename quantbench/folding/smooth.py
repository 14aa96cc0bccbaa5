"""SmoothQuant: ranges of channels moved from the input of Linears into their weights, by the norm or Linear before.

Source: Xiao et al., "SmoothQuant: accurate and efficient post-training quantization for large language models",
arXiv:2211.10438, section 4: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha), which divides channel j of the activation and
multiplies row j of the weights that read it. The division goes into what makes the activation: gain and bias of a
LayerNorm or RMS norm, in one node or in parts, or a Linear's weight; also through the products of attention, which are
linear in the values. No operator is added. Alpha is chosen for each site by the error at the outputs of its Linears.
"""

from collections.abc import Collection

from quantbench.folding.equalize import is_of_convs
from quantbench.folding.sites import Folding, Looked, folding_of

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def smooth(looked: Looked, layers: Collection[str]) -> Folding:
    """Scales for the channels that norms and Linears make and those of `layers` (names of the quantized layers) read;
    `quantbench.folding.fold.fold` carries them out."""
    return folding_of(looked, layers, "smooth", lambda site: not is_of_convs(site), ALPHAS)
