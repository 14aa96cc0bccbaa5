"""Rounding of one weight matrix so that the layer's output, and not each weight, comes out nearest.

A weight may be rounded down or up, as AdaRound has it (Nagel et al., "Up or down? Adaptive rounding for post-training
quantization", arXiv:2004.10568): its layer's output error over inputs x is tr((Q - W) H (Q - W)^T) with H = E[x x^T]
(their eq. 13; H as OBQ and GPTQ have it, Frantar et al., arXiv:2210.17323, eq. 1). Where they learn by gradient or
round one column after another, this descends by coordinates: each weight in turn takes the one of its two integers with
the least error given all others, until nothing moves. No weight leaves its two integers; the error never grows.
"""

import numpy as np
from numpy.typing import NDArray

INT8_MAX = 127
# What is added of H's mean diagonal to it (as GPTQ has it), and the share of what is off it that is left out: it is
# known from few images. Measured on other images, on three networks of tests/data/models, 0.3 is best or even with the
# best among 0 to 0.3 and shares that grow as rows are few.
DAMPING, SHRINKAGE = 0.01, 0.3
SWEEPS = 6
# Columns whose gradient is kept up to date one by one; the others follow in one product.
_BLOCK = 64
Matrix = NDArray[np.float64]


def damped(moments: Matrix) -> Matrix:
    """H [groups, K, K] with `DAMPING` and `SHRINKAGE`."""
    diagonal = np.einsum("gkk->gk", moments)
    added = SHRINKAGE * diagonal + DAMPING * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    return np.asarray((1 - SHRINKAGE) * moments + added[:, :, None] * np.eye(moments.shape[-1]))


def output_error(difference: Matrix, moments: Matrix) -> float:
    """Mean square of what `difference` [groups, outputs, K] adds to the outputs, summed over these, under `moments`
    [groups, K, K]."""
    return float(np.einsum("gok,gok->", difference @ moments, difference))


def round_matrix(weight: Matrix, scale: Matrix, moments: Matrix) -> tuple[Matrix, int]:
    """Integers for `weight` [groups, outputs, K] with steps `scale` (of a shape that broadcasts) under `moments`
    [groups, K, K], already `damped`; and how many of them are not the nearest."""
    step = np.broadcast_to(scale, weight.shape)
    exact = np.clip(weight / step, -INT8_MAX, INT8_MAX)
    low, high = np.floor(exact), np.ceil(exact)
    nearest = np.rint(exact)
    chosen = nearest.copy()
    gradient = (chosen * step - weight) @ moments
    diagonal = np.einsum("gkk->gk", moments)
    columns = weight.shape[-1]
    for _ in range(SWEEPS):
        moved = False
        for start in range(0, columns, _BLOCK):
            block = slice(start, min(start + _BLOCK, columns))
            before = chosen[..., block].copy()
            local, inner = gradient[..., block].copy(), moments[:, block, block]
            for at in range(before.shape[-1]):
                column = start + at
                # The other integer lowers the error where the parabola along this weight has its minimum nearer to it.
                wanted = chosen[..., column] - local[..., at] / (diagonal[:, None, column] * step[..., column])
                taken = np.clip(np.rint(wanted), low[..., column], high[..., column])
                change = (taken - chosen[..., column]) * step[..., column]
                if change.any():
                    chosen[..., column] = taken
                    local += change[..., None] * inner[:, None, at]
            change = (chosen[..., block] - before) * step[..., block]
            if change.any():
                moved = True
                gradient += change @ moments[:, block]
        if not moved:
            break
    return chosen, int(np.count_nonzero(chosen != nearest))
