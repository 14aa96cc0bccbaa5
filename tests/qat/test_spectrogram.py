"""A network that hears by a spectrogram of its own: its filter banks stay float in both front ends."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quantbench
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qat.insert import plan_for
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place

_WINDOW = 64


class Heard(nn.Module):
    """A Fourier transform as two convs, mel-like bands, a logarithm, and a small net on [n, 1, samples]."""

    def __init__(self) -> None:
        super().__init__()
        angle = torch.arange(1, 33)[:, None] * torch.arange(_WINDOW)[None] * (torch.pi / _WINDOW)
        self.re, self.im = (nn.Conv1d(1, 32, _WINDOW, stride=32, bias=False) for _ in range(2))
        for conv, wave in ((self.re, angle.cos()), (self.im, angle.sin())):
            conv.weight = nn.Parameter((wave * torch.hann_window(_WINDOW))[:, None])
        self.bands = nn.Linear(32, 16, bias=False)
        self.bands.weight = nn.Parameter((torch.arange(32)[None] // 2 == torch.arange(16)[:, None]).float())
        self.body = nn.Sequential(nn.Conv1d(16, 16, 3), nn.ReLU(), nn.Conv1d(16, 16, 3), nn.ReLU(), nn.Conv1d(16, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        power = torch.stack([self.re(x), self.im(x)], -1).pow(2).sum(-1)
        return self.body(torch.log10(self.bands(power.transpose(1, 2)).clamp(min=1e-6)).transpose(1, 2))


@pytest.fixture(scope="module")
def heard() -> Heard:
    torch.manual_seed(0)
    return Heard().eval()


def _clips(seed: int) -> Tensor:
    """[16, 1, 512]: one loud tone and one a thousandth of it, each."""
    generator = torch.Generator().manual_seed(seed)
    pitch, phase = (torch.rand(16, 2, 1, generator=generator) * scale for scale in (2.5, 6.0))
    return (torch.sin(torch.arange(512) * pitch + phase) * torch.tensor([[1.0], [1e-3]])).sum(1, keepdim=True)


def test_both_front_ends_keep_the_banks_in_float(heard: Heard) -> None:
    traced = trace(heard, _clips(0)[:1])
    torch_plan = plan_for(traced, PlacementOptions())
    onnx_plan = place(view_of(export_onnx(heard, _clips(0)[:1], traced.folds, ExportOptions(exporter="legacy"))))
    kept = {"re/Conv", "im/Conv", "bands/MatMul"}
    for plan in (torch_plan, onnx_plan):
        by_rule = {name for name, why in plan.kept_float.items() if why.startswith("logarithm: ")}
        assert {name.lstrip("/") for name in by_rule} == kept
        assert len(plan.weights) == 2
    switched = plan_for(traced, PlacementOptions(log_float=False))
    assert kept <= {site.node for site in switched.weights}


def test_quiet_tones_survive(heard: Heard) -> None:
    model = export_onnx(heard, _clips(0)[:1], (), ExportOptions(exporter="legacy", dynamic_batch=True))
    (wanted,) = create_session(model, threads=1).run(None, {"input": _clips(1).numpy()})

    def nearness(options: PlacementOptions) -> float:
        found = quantbench.quantize(model, [{"input": _clips(0).numpy()}], placement=options, threads=1)
        (given,) = create_session(found.model, threads=1).run(None, {"input": _clips(1).numpy()})
        return float(10 * np.log10(np.square(wanted).sum() / np.square(given - wanted).sum()))

    assert nearness(PlacementOptions()) > nearness(PlacementOptions(log_float=False)) + 10


def test_a_tensor_less_a_number_is_no_norm() -> None:
    """torch's view knows no numbers: such a Sub has one input."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) - 0.5)

    assert len(plan_for(trace(Shifted().eval(), torch.zeros(1, 3, 4, 4)), PlacementOptions()).weights) == 1
