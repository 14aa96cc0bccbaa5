"""Fold batch norms into the convs before them: exact for the integers of a per-channel weight quantizer.

A conv with fake-quantized weight s*q followed by a batch norm that multiplies by g equals a conv with scale s*|g| and
integers q*sign(g): the folded weight quantizes to the same integers, because -127..127 is symmetric.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from quantbench.qat.quantizer import SMALLEST_SCALE, WeightQuantizer


@torch.no_grad()
def fold_batch_norms(model: nn.Module, folds: Iterable[tuple[str, str]]) -> None:
    """Fold each (conv, batch norm) of `folds` in place; the batch norm becomes an Identity.

    A batch norm without running statistics normalises by the batch and stays.
    """
    for conv_name, norm_name in folds:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        if not isinstance(norm, _NORMS) or norm.running_mean is None or norm.running_var is None:
            continue
        if not isinstance(conv, (*_CONVS, *_TRANSPOSED, nn.Linear)):
            continue
        factor = torch.rsqrt(norm.running_var + norm.eps)
        offset = -norm.running_mean * factor
        if norm.affine:
            factor, offset = factor * norm.weight, offset * norm.weight + norm.bias
        _scale(conv, factor, offset)
        parent, _, child = norm_name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _scale(conv: nn.Module, factor: Tensor, offset: Tensor) -> None:
    assert isinstance(conv, (*_CONVS, *_TRANSPOSED, nn.Linear))
    weight = conv.weight
    shape = [1] * weight.dim()
    if isinstance(conv, _TRANSPOSED):
        shape[1] = -1  # [C, K/g, ...]: with groups the rows of each group have their own channels
        along = factor.view(conv.groups, 1, -1).expand(conv.groups, weight.shape[0] // conv.groups, -1)
        weight.mul_(along.reshape(weight.shape[0], -1, *shape[2:]))
    else:
        shape[0] = -1
        weight.mul_(factor.view(shape))
    quantizer = getattr(conv, "_weight_quantizer", None)
    if isinstance(quantizer, WeightQuantizer):
        if quantizer.axis is not None and quantizer.scale.numel() == factor.numel():
            dead = weight.abs().amax([i for i in range(weight.dim()) if i != quantizer.axis]) == 0
            quantizer.scale.mul_(factor.abs()).masked_fill_(dead, SMALLEST_SCALE)
        else:
            quantizer.follow(weight)
    new = offset if conv.bias is None else conv.bias * factor + offset
    conv.bias = nn.Parameter(new.detach().to(weight.dtype))
