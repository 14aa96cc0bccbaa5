"""Cross-layer equalization: channels of what convs give each other brought to like ranges, by their weights.

Source: Nagel et al., "Data-free quantization through weight equalization and bias correction", arXiv:1906.04721,
section 4.1. As there the scale of a channel lies half way between the layers, s = sqrt(r2 / r1) for what the first one
gives; but as weights have a step for each output channel here, what matters of the first is the range r1 of its
activation, measured, and only the weights r2 of the second are in the balance (none of a depthwise conv's are). All
convs on one residual stream share its scales. A ReLU lets any scale through, a ReLU6 those that keep it from biting
where it did not (`quantbench.folding.channels`); SiLU and h-swish none, and the refusal says so.
"""

from collections.abc import Collection

from quantbench.folding.channels import Site
from quantbench.folding.sites import Folding, Looked, folding_of
from quantbench.graph.ops import CONVS

ALPHAS = (0.5,)


def equalize(looked: Looked, layers: Collection[str]) -> Folding:
    """Scales for the channels that convs make and those of `layers` (names of the quantized layers) read, where the
    readers' outputs are nearer to float for it; `quantbench.folding.fold.fold` carries them out."""
    return folding_of(looked, layers, "equalize", is_of_convs, ALPHAS)


def is_of_convs(site: Site) -> bool:
    """Whether a conv makes some of its channels; what norms and Linears make is SmoothQuant's."""
    return any(maker.node.op in CONVS or maker.node.op == "BatchNormalization" for maker in site.makers)
