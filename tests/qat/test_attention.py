"""Transformers on the QAT road: nothing passes by the quantizers, and the attention's projections have theirs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.qat.attention import open_attention
from quantbench.qat.checks import quantized_nodes, run_onnx
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.quantizer import weight_quantizers
from quantbench.qat.to_onnx import ExportOptions, export_onnx
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions

EVERYTHING = PlacementOptions(head_float=False, tiny_channels=0)


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10((signal**2).sum() / ((signal - other) ** 2).sum()))


class Encoder(nn.Module):
    """Two of torch's layers, whose evaluation mode is one kernel."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.encoder(x)
        return y


class Decoder(nn.Module):
    """Cross-attention: queries read another tensor than keys."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
        self.queries = nn.Parameter(torch.randn(1, 5, 32))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(self.queries.expand(x.shape[0], -1, -1) + 0 * x[:, :1], x)
        return y


@pytest.mark.parametrize(("make", "linears"), [(Encoder, 8), (Decoder, 8)])
@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_every_projection_is_quantized(make: Callable[[], nn.Module], linears: int, exporter: str) -> None:
    torch.manual_seed(0)
    model = make().eval()
    keys = list(model.state_dict())
    x = torch.randn(8, 12, 32)
    with torch.no_grad():
        want = model(x).numpy()
    traced = trace(model, x[:1])
    plan = plan_for(traced, EVERYTHING)
    assert len(plan.weights) == linears
    insert(model, traced, plan)
    assert [key for key in model.state_dict() if "quantizer" not in key] == keys
    ranges = calibrate(model, lambda: [x], "minmax")
    assert all(r.amax > 0.1 for r in ranges.tensors.values())
    assert len(list(weight_quantizers(model))) == linears
    exported = export_onnx(model, x[:1], traced.folds, ExportOptions(exporter, None, exporter == "legacy"))
    both, weighted = quantized_nodes(exported)
    assert len(both) == linears
    assert len(weighted) >= linears
    fed = x if exporter == "legacy" else x[:1]
    assert sqnr(want[: len(fed)], run_onnx(exported, fed.numpy())[0]) > 30


@pytest.mark.parametrize("batch_first", [False, True])
def test_open_attention_computes_as_torch(batch_first: bool) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    other = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    other.load_state_dict(plain.state_dict())
    open_attention(other)
    q, k = torch.randn(3, 3, 16), torch.randn(3, 3, 16)
    mask = torch.triu(torch.ones(3, 3, dtype=torch.bool), 1)
    padding = torch.tensor([[False, False, True]] * 3)
    cases = [((q, q, q), {}), ((q, k, k), {}), ((q, q, q), {"attn_mask": mask}), ((q[0], q[0], q[0]), {}),
             ((q, k, k), {"key_padding_mask": padding, "average_attn_weights": False}),
             ((q, q, q), {"attn_mask": mask.float(), "need_weights": False})]  # fmt: skip
    for inputs, options in cases:
        want, got = plain(*inputs, **options), other(*inputs, **options)
        torch.testing.assert_close(got[0], want[0])
        assert (got[1] is None) == (want[1] is None)
        if want[1] is not None:
            torch.testing.assert_close(got[1], want[1])


def test_a_quantizer_that_saw_nothing_is_an_error() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.dark = nn.Linear(8, 8), nn.Linear(8, 8), False

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(x)
            return y if self.dark else self.b(y)

    model = Branch().eval()
    x = torch.randn(4, 8)
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, EVERYTHING))
    model.dark = True
    with pytest.raises(QuantbenchError, match="1 of 2 quantizers saw nothing"):
        calibrate(model, lambda: [x], "minmax")


def test_groups_of_a_transposed_conv_count() -> None:
    """32 output channels in 8 groups are not 4."""
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ConvTranspose2d(32, 32, 2, 2, groups=8), nn.Conv2d(32, 8, 1)).eval()
    traced = trace(model, torch.randn(1, 3, 8, 8))
    assert plan_for(traced, PlacementOptions(head_float=False)).kept_float == {}


def test_a_functional_conv_has_its_parameter_quantized() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(16, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, self.kernel)

    model = Functional().eval()
    x = torch.randn(4, 3, 8, 8)
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, EVERYTHING))
    calibrate(model, lambda: [x], "minmax")
    assert [q.parameter for _, _, q in weight_quantizers(model)] == ["kernel"]
    exported = export_onnx(model, x[:1], traced.folds, ExportOptions("legacy"))
    assert len(quantized_nodes(exported)[0]) == 1
