"""Both exporters: clean Q/DQ, opsets, open batch, INT8 weights, names, and the numbers of torch."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from quantbench.errors import QuantbenchError
from quantbench.qat.checks import compare, quantized_nodes, run_onnx, run_torch
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import calibrate
from quantbench.qat.to_onnx import EXPORTERS, ExportOptions, export_onnx
from quantbench.qat.trace import Trace, trace
from quantbench.qdq.options import PlacementOptions
from tests.qat import networks


@pytest.fixture(scope="module")
def quantized() -> tuple[nn.Module, Trace, torch.Tensor]:
    model = networks.residual()
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    traced = trace(model, x[:1])
    insert(model, traced, plan_for(traced, PlacementOptions()))
    calibrate(model, lambda: [x], "minmax")
    return model, traced, x


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("int8", [False, True])
def test_exported_graph_is_clean_and_right(
    exporter: str, int8: bool, quantized: tuple[nn.Module, Trace, torch.Tensor]
) -> None:
    model, traced, x = quantized
    options = ExportOptions(exporter, None, True, int8, "image", ("logits",))
    exported = export_onnx(model, x[:1], traced.folds, options)
    ops = [n.op_type for n in exported.graph.node]
    assert not {"Identity", "Constant", "BatchNormalization", "Cast", "Pad"} & set(ops)
    activations, weights = 7, 5
    assert ops.count("DequantizeLinear") == activations + weights - 1  # conv a and the residual add share one
    assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") - (weights if int8 else 0)
    both, weighted = quantized_nodes(exported)
    assert len(both) == 5
    assert len(weighted) == 6
    assert [(i.name, i.type.tensor_type.shape.dim[0].dim_param) for i in exported.graph.input] == [("image", "batch")]
    assert [o.name for o in exported.graph.output] == ["logits"]
    stored = {numpy_helper.to_array(t).dtype for t in exported.graph.initializer if len(t.dims) == 4}
    assert stored == {np.dtype(np.int8 if int8 else np.float32)}
    facts = compare(run_torch(model, x), run_onnx(exported, x.numpy()))
    assert facts.agreement.value == 1.0
    assert facts.sqnr_db.value > 25
    names = {n.name for n in exported.graph.node}
    assert any("a" in n.split("/") and n.endswith("/Conv") for n in names)
    assert any("add_0_1_input_quantizer" in n or "a/_input_quantizer" in n or "a._input_quantizer" in n for n in names)
    assert not any(n.metadata_props for n in exported.graph.node)


@pytest.mark.parametrize(("exporter", "opset"), [("legacy", 17), ("legacy", 19), ("dynamo", 18), ("dynamo", 20)])
def test_opsets(exporter: str, opset: int, quantized: tuple[nn.Module, Trace, torch.Tensor]) -> None:
    model, traced, x = quantized
    exported = export_onnx(model, x[:1], traced.folds, ExportOptions(exporter, opset))
    assert max(o.version for o in exported.opset_import if o.domain == "") == opset
    onnx.checker.check_model(exported, full_check=True)
    assert run_onnx(exported, x[:1].numpy())[0].shape == (1, 10)


def test_faults_are_one_line(quantized: tuple[nn.Module, Trace, torch.Tensor]) -> None:
    model, traced, x = quantized
    with pytest.raises(QuantbenchError, match="opset 13 is too old"):
        export_onnx(model, x[:1], traced.folds, ExportOptions("legacy", 13))
    with pytest.raises(QuantbenchError, match="unknown exporter 'onnx'"):
        export_onnx(model, x[:1], traced.folds, ExportOptions("onnx"))


def test_conv_transpose_and_matmul_are_quantized_through_the_router() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 16, 3, 2, 1)
            self.up = nn.ConvTranspose2d(16, 16, 2, 2, groups=2)
            self.norm = nn.BatchNorm2d(16)
            self.mix = nn.Linear(16, 16)
            self.out = nn.Conv2d(16, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.up(self.down(x)))
            y = self.mix(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.out(y)

    torch.manual_seed(0)
    model = networks.randomised(Up())
    x = torch.rand(2, 3, 16, 16)
    traced = trace(model, x)
    plan = plan_for(traced, PlacementOptions(head_float=False))
    assert len(plan.weights) == 4
    insert(model, traced, plan)
    calibrate(model, lambda: [x], "minmax")
    assert model.up._weight_quantizer.axis == 1
    for exporter in EXPORTERS:
        exported = export_onnx(model, x, traced.folds, ExportOptions(exporter))
        facts = compare(run_torch(model, x), run_onnx(exported, x.numpy()))
        assert facts.sqnr_db.value > 25, exporter


class Branches(nn.Module):
    """An `if` on the values of a tensor, which a graph does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y * 2 if y.mean() > 0 else y


def test_an_if_on_values_is_one_line_without_escapes_or_dumps(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(QuantbenchError) as caught:
        export_onnx(Branches().eval(), torch.zeros(1, 3, 8, 8), {}, ExportOptions("dynamo"))
    message = str(caught.value)
    assert "as an `if` on one does (Could not guard on data-dependent expression" in message
    assert message.endswith("try --exporter legacy")
    assert "\n" not in message
    assert "\x1b" not in message
    assert capfd.readouterr() == ("", "")
