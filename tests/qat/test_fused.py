"""Fused fake quantization: the numbers of torch's operators, forward and backward, with a SiLU before it or without."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantbench.qat import fused
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.quantizer import lsq
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions

SCALE = 0.0173
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def values(dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(4)
    x = 3 * torch.randn(2, 8, 9, 9, generator=g)
    x.view(-1)[:4] = torch.tensor([127.4, 127.6, -128.4, -129.0]) * SCALE  # at the ends of the range
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def results(work, dtype: torch.dtype, *extra: Tensor) -> list[Tensor]:
    """Output and gradients of `work` for a fixed incoming gradient."""
    x = values(dtype).requires_grad_()
    given = [e.clone().requires_grad_() for e in extra]
    y = work(x, *given)
    y.backward(torch.linspace(-1, 1, y.numel()).view(y.shape).to(dtype))
    return [y.detach(), x.grad, *(e.grad for e in given)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("before", [lambda x: x * 1, F.relu, F.silu, lambda x: F.silu(x * 1, inplace=True)],
                         ids=["plain", "relu", "silu", "in place"])  # fmt: skip
def test_it_is_torchs_fake_quantization(before, dtype: torch.dtype) -> None:
    plain = results(lambda x: torch.fake_quantize_per_tensor_affine(before(x), SCALE, 0, -128, 127), dtype)
    found = results(lambda x: fused.fake_quantize(before(x), SCALE), dtype)
    assert torch.equal(plain[0], found[0])
    torch.testing.assert_close(plain[1], found[1], rtol=1e-5 if dtype == torch.float32 else 0, atol=1e-7)
    assert 0 < (found[1] == 0).float().mean() < 0.9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("before", [lambda x: x * 1, F.silu], ids=["plain", "silu"])
def test_a_learned_scale_gets_the_gradient_of_lsq(before, dtype: torch.dtype) -> None:
    scale = torch.tensor(0.0173)
    plain = results(lambda x, s: lsq(before(x), s), dtype, scale)
    found = results(lambda x, s: fused.learned_quantize(before(x), s), dtype, scale)
    assert torch.equal(plain[0], found[0])
    torch.testing.assert_close(plain[1], found[1])
    torch.testing.assert_close(plain[2], found[2], rtol=1e-4, atol=1e-5)


def test_the_gradient_skips_a_silu_only_where_that_is_the_same() -> None:
    x = torch.randn(4, 4).requires_grad_()
    y = F.silu(x)
    assert fused.silu_input(y) is x
    assert fused.silu_input(F.relu(x)) is None
    assert fused.silu_input(y[:2]) is None
    assert fused.silu_input(x) is None
    # Another reader of the SiLU gets its gradient by the ordinary way; both are added.
    (fused.fake_quantize(y, 0.5).sum() + 2 * y.sum()).backward()
    z = x.detach().clone().requires_grad_()
    w = F.silu(z)
    (torch.fake_quantize_per_tensor_affine(w, 0.5, 0, -128, 127).sum() + 2 * w.sum()).backward()
    torch.testing.assert_close(x.grad, z.grad)


def test_quantizers_behind_an_in_place_silu_can_be_fused() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.SiLU(inplace=True), nn.Conv2d(8, 16, 3), nn.SiLU(), nn.Conv2d(16, 8, 1)
    )
    x = torch.rand(1, 3, 16, 16)
    before = model(x)
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, PlacementOptions(head_float=False)))
    assert not any(m.inplace for m in model.modules() if isinstance(m, nn.SiLU))
    assert torch.equal(model(x), before)
