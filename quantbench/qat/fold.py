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
    """Fold each (conv, batch norm) of `folds` in place; the batch norm becomes an Identity."""
    for conv_name, norm_name in folds:
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        mean, variance = norm.running_mean, norm.running_var
        if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
            continue  # no running statistics: it normalises by the batch and cannot be folded
        factor = torch.rsqrt(variance + float(norm.eps))  # type: ignore[arg-type]
        offset = -mean * factor
        if isinstance(norm.weight, Tensor) and isinstance(norm.bias, Tensor):
            factor, offset = factor * norm.weight, offset * norm.weight + norm.bias
        _scale(conv, factor, offset)
        parent, _, child = norm_name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())


def _scale(conv: nn.Module, factor: Tensor, offset: Tensor) -> None:
    weight = conv.weight
    assert isinstance(weight, nn.Parameter)
    shape = [1] * weight.dim()
    along = factor
    if isinstance(conv, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
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
    bias = conv.bias
    new = offset if bias is None else bias * factor + offset  # type: ignore[operator]
    conv.bias = nn.Parameter(new.detach().to(weight.dtype))
