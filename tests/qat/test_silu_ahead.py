"""A SiLU that quantizes its result by the way: the numbers of the two apart, whoever reads the SiLU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quantbench.qat import fused, silu_ahead
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.quantizer import TensorQuantizer, lsq
from quantbench.qat.silu_ahead import AheadSiLU
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions

SCALE = 0.0173


class Shared(nn.Module):
    """One SiLU for all layers, as in ultralytics' models; a residual add, so that a SiLU has two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.SiLU(inplace=True)
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.d, self.e = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.other_way = self.checkpointed = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.a(x))
        if self.other_way:  # the calls that follow have other numbers than before
            x = x + 0.1 * self.act(x)
        x = x + self.act(self.b(x))
        x = checkpoint(self.tail, x, use_reentrant=False) if self.checkpointed else self.tail(x)
        return self.d(x)

    def tail(self, x: Tensor) -> Tensor:
        return self.act(self.c(self.act(self.e(x))))


def made(learned: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = Shared(), torch.rand(2, 3, 12, 12)
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, PlacementOptions(head_float=False)), learned=learned)
    calibrate(model, lambda: [x], "minmax")
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.range.set_amax(module.range.amax * 0.7)
    return model.train(), x


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


def ahead(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Let it happen by torch's operators, which have the numbers of the kernels; returns where results are noted."""
    together: list[Tensor] = []
    function = fused.silu_and_quantized

    def noted(*given):
        together.append(function(*given)[0])
        return function(*given)

    monkeypatch.setattr(silu_ahead, "worthwhile", lambda found: True)
    monkeypatch.setattr(fused, "silu_and_quantized", noted)
    return together


@pytest.mark.parametrize("learned", [False, True])
def test_a_model_has_the_same_numbers(learned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(learned)
    expected = gradients(model, x)
    together = ahead(monkeypatch)
    for kind in ("checkpointed", "other_way", "plain"):
        for way in (True, True, False):
            setattr(model, kind, way)
            reference = copy.deepcopy(model)
            monkeypatch.setattr(silu_ahead, "worthwhile", lambda found: False)
            expected = gradients(reference, x)
            monkeypatch.setattr(silu_ahead, "worthwhile", lambda found: True)
            before = len(together)
            for one, other in zip(gradients(model, x), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5 * float(other.abs().max()))
        assert len(together) > before  # and it did happen
    assert all(q._last is None for q in model.modules() if isinstance(q, TensorQuantizer))


def test_all_silus_whose_readers_quantize(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(False)
    together = ahead(monkeypatch)
    gradients(model, x)
    assert not together
    gradients(model, x)
    assert len(together) == 4
    with torch.no_grad():
        model(x)
    model.eval()
    model(x)
    gradients(copy.deepcopy(model).train(), x)
    assert len(together) == 4


def test_who_watches_a_silu_gets_its_whole_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = made(False)
    plain = copy.deepcopy(model)
    plain.act.ahead = None
    ahead(monkeypatch)
    gradients(model, x)

    def watched(model: nn.Module) -> list[Tensor]:
        seen: list[Tensor] = []
        model.act.register_forward_hook(lambda m, i, y: y.register_hook(seen.append) and None)
        gradients(model, x)
        return seen

    for one, other in zip(watched(model), watched(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5 * float(other.abs().max()))


def test_the_silu_that_models_share_is_left_alone() -> None:
    one, two = Shared(), Shared()
    two.act = one.act
    x = torch.rand(1, 3, 12, 12)
    traced = trace(one, x)
    insert(one, traced, plan_for(traced, PlacementOptions(head_float=False)))
    assert type(two.act) is nn.SiLU
    assert type(one.act) is AheadSiLU


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("direct", [0.0, 2.0], ids=["one reader", "two readers"])
def test_silu_and_quantizer_together(dtype: torch.dtype, direct: float) -> None:
    def run(work, *extra: Tensor) -> list[Tensor]:
        x = (3 * torch.randn(4, 8, 9, generator=torch.Generator().manual_seed(4))).to(dtype).requires_grad_()
        scales = [e.clone().requires_grad_() for e in extra]
        y, q = work(x, *scales)
        result = q + direct * y if direct else q
        result.backward(torch.linspace(-1, 1, q.numel()).view(q.shape).to(dtype))
        return [result.detach(), x.grad, *(s.grad for s in scales)]

    def apart(x: Tensor, *scales: Tensor) -> tuple[Tensor, Tensor]:
        y = F.silu(x)
        return y, lsq(y, scales[0]) if scales else torch.fake_quantize_per_tensor_affine(y, SCALE, 0, -128, 127)

    for scales in ((), (torch.tensor(SCALE),)):
        plain = run(apart, *scales)
        found = run(lambda x, *s: fused.silu_and_quantized(x, s[0] if s else SCALE), *scales)
        assert torch.equal(plain[0], found[0])
        torch.testing.assert_close(plain[1], found[1], rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-5)
        for one, other in zip(plain[2:], found[2:], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
