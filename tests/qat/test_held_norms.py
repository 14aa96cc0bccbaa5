"""Batch norms with held statistics that make what follows them by the way: the numbers of torch's operators, whatever
stands behind them and whoever looks on. By the operators that stand in for the kernels where there are none;
scripts/qat_kernel_check.py holds the kernels to the same on a card."""

import copy
import io
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quantbench.qat import held_norms, norms_ahead
from quantbench.qat.fold import fold_batch_norms
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.quantizer import TensorQuantizer
from quantbench.qat.silu_ahead import AheadNorm
from quantbench.qat.trace import trace
from quantbench.qat.training_state import hold_batch_norms
from quantbench.qdq.options import PlacementOptions


class Normed(nn.Module):
    """Norms before a SiLU that a quantizer reads and one that none does, before an in-place ReLU and before nothing,
    and without affine parameters; one SiLU for all, as in ultralytics' models."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.relu = nn.SiLU(), nn.ReLU(inplace=True)
        self.convs = nn.ModuleList([nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1, bias=False) for i in range(6)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(8, momentum=None, affine=i != 4) for i in range(5)])
        self.way = ""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norms[0](self.convs[0](x)))
        z = self.norms[1](self.convs[1](x))
        if self.way == "no SiLU":
            x = x + torch.tanh(z)
        elif self.way == "two readers":
            x = x + self.act(z) + z
        elif self.way == "in place":
            x = x + self.act(z.add_(1))
        else:
            x = x + self.act(z)
        x = checkpoint(self.tail, x, use_reentrant=False) if self.way == "checkpointed" else self.tail(x)
        return self.convs[5](x)

    def tail(self, x: Tensor) -> Tensor:
        x = self.relu(self.norms[2](self.convs[2](x)))
        x = torch.tanh(self.act(self.norms[3](self.convs[3](x))))
        return self.norms[4](self.convs[4](x))


def made(learned: bool = False) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = Normed(), torch.rand(2, 3, 12, 12)
    for _ in range(2):
        model(x)
    with torch.no_grad():
        for norm in model.norms[:4]:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    traced = trace(model.eval(), x)
    insert(model, traced, plan_for(traced, PlacementOptions(head_float=False)), learned=learned)
    calibrate(model, lambda: [x], "minmax")
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.range.set_amax(module.range.amax * 0.7)
    hold_batch_norms(model.train())
    return model, x


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def made_with(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Let it happen by operators; counts norms by what they made."""
    count: Counter[str] = Counter()
    alone, together = held_norms.normalized, held_norms.normalized_with_silu

    def noted(*given):
        count["norm"] += 1
        return alone(*given)

    def noted_too(*given):
        results = together(*given)
        count["SiLU" if len(results) == 2 else "quantized"] += 1
        return results

    monkeypatch.setattr(norms_ahead, "worthwhile", lambda found: True)
    monkeypatch.setattr(held_norms, "normalized", noted)
    monkeypatch.setattr(held_norms, "normalized_with_silu", noted_too)
    return count


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5 * float(other.abs().max()))


@pytest.mark.parametrize("learned", [False, True])
def test_a_model_has_the_same_numbers(learned: bool, made_with: Counter[str]) -> None:
    model, x = made(learned)
    reference = copy.deepcopy(model)
    for module in reference.modules():
        if isinstance(module, AheadNorm):
            module.ahead = None
    for way in ("no SiLU", "two readers", "in place", "checkpointed"):
        ready = copy.deepcopy(model)
        for step in ("", "", way, way, ""):
            ready.way = reference.way = step
            same(gradients(ready, x), gradients(reference, x))
        assert all(q._last is None for q in ready.modules() if isinstance(q, TensorQuantizer))
    assert set(made_with) == {"norm", "SiLU", "quantized"}


def test_the_second_pass_makes_what_follows_by_the_way(made_with: Counter[str]) -> None:
    model, x = made()
    gradients(model, x)
    assert made_with == {"norm": 5}
    made_with.clear()
    gradients(model, x)
    assert made_with == {"norm": 2, "SiLU": 1, "quantized": 2}
    made_with.clear()
    with torch.no_grad():
        model(x)
    gradients(model.train(), x)  # norms that train
    assert not made_with


@pytest.mark.parametrize("what", ["forward", "tensor", "retained"])
def test_who_watches_a_norm_gets_its_whole_gradient(what: str, made_with: Counter[str]) -> None:
    model, x = made()
    plain = copy.deepcopy(model)
    for norm in plain.norms:
        norm.ahead = None
    gradients(model, x)
    gradients(model, x)

    def watched(model: nn.Module) -> Tensor:
        seen: list[Tensor] = []
        if what == "forward":
            model.norms[0].register_forward_hook(lambda m, i, z: z.register_hook(seen.append) and None)
            gradients(model, x)
            return seen[0]

        def before(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if not seen:
                seen.append(given[0])
                given[0].retain_grad() if what == "retained" else given[0].register_hook(seen.append)

        model.act.register_forward_pre_hook(before)
        gradients(model, x)
        return seen[0].grad if what == "retained" else seen[1]

    same([watched(model)], [watched(plain)])


def test_gradients_of_gradients(made_with: Counter[str]) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    norm = nn.BatchNorm2d(8).eval()

    def run(ours: bool) -> list[Tensor]:
        if ours:
            z, y, q = held_norms.normalized_with_silu(x, norm, 0.02)
        else:
            z = norm(x)
            y = nn.functional.silu(z)
            q = torch.fake_quantize_per_tensor_affine(y, 0.02, 0, -128, 127)
        inputs = [x, norm.weight, norm.bias]
        first = torch.autograd.grad((q * y).sum(), inputs, create_graph=True)
        return [*(f.detach() for f in first), *torch.autograd.grad(sum(f.square().sum() for f in first), inputs)]

    same(run(True), run(False))


def test_frozen_parameters_and_copies(made_with: Counter[str]) -> None:
    model, x = made()
    for norm in model.norms:
        norm.requires_grad_(False)
    expected = gradients(model, x)
    same(gradients(model, x), expected)
    same(gradients(copy.deepcopy(model), x), expected)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    same(gradients(torch.load(stream, weights_only=False), x), expected)


def test_exporters_and_folding_see_batch_norms(made_with: Counter[str]) -> None:
    model, x = made()
    gradients(model, x)
    model.eval()
    expected = model(x).detach()
    graph = torch.export.export(model, (x,)).graph
    names = [str(node.target) for node in graph.nodes]
    assert sum("batch_norm" in name for name in names) == 5
    fold_batch_norms(model, [(f"convs.{i}", f"norms.{i}") for i in range(5)])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert float((model(x).detach() - expected).abs().max()) < 0.1 * float(expected.abs().max())
