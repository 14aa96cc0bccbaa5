"""Fake quantizers: the values, the gradients, who shares what, and what survives copying, halving and saving."""

import copy
import pickle

import numpy as np
import pytest
import torch

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibration.sweep import histogram_of
from quantbench.errors import QuantbenchError
from quantbench.qat.counter import Changed, TensorCounter
from quantbench.qat.fold import fold_batch_norms
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.observe import apply_ranges, calibrate
from quantbench.qat.quantizer import (
    Mode,
    SharedRange,
    TensorQuantizer,
    WeightQuantizer,
    activation_quantizers,
    lsq,
    set_mode,
)
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.weights import quantize_weight, weight_scale
from tests.qat import networks


def _quantized(learned: bool = False) -> tuple[torch.nn.Module, torch.Tensor]:
    model = networks.residual()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, PlacementOptions()), learned=learned)
    calibrate(model, lambda: [x], "minmax")
    return model, x


def test_values_and_straight_through_gradients() -> None:
    range_ = SharedRange()
    range_.set_amax(1.27)
    quantizer = TensorQuantizer("t", range_)
    quantizer.mode = Mode.QUANTIZE
    x = torch.tensor([0.004, 0.006, -5.0, 0.5, 9.0], requires_grad=True)
    y = quantizer(x)
    assert torch.allclose(y, torch.tensor([0.0, 0.01, -1.28, 0.5, 1.27]))
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_weights_quantize_as_on_the_onnx_side() -> None:
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0.0
    quantizer = WeightQuantizer("w", weight, 0)
    quantizer.mode = Mode.QUANTIZE
    scale = weight_scale(weight.numpy(), 0)
    expected = quantize_weight(weight.numpy(), scale, 0) * scale.reshape(-1, 1, 1, 1)
    assert np.allclose(quantizer(weight).numpy(), expected, atol=1e-6)


def test_lsq_gradient_of_the_scale() -> None:
    """arXiv:1902.08153, eq. 3: inside the range round(v) - v, outside the bound, times 1 / sqrt(n * 127)."""
    scale = torch.tensor(0.1, requires_grad=True)
    x = torch.tensor([0.23, 50.0, -50.0], requires_grad=True)
    lsq(x, scale).sum().backward()
    expected = ((2 - 2.3) + 127 - 128) / (3 * 127) ** 0.5
    assert scale.grad.item() == pytest.approx(expected, rel=1e-4)
    assert x.grad.tolist() == [1.0, 0.0, 0.0]


def test_float_keys_survive_and_off_changes_nothing() -> None:
    model = networks.residual()
    keys, x = set(model.state_dict()), torch.rand(1, 3, 32, 32)
    before = model(x)
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, PlacementOptions()))
    assert keys < set(model.state_dict())
    assert torch.equal(model(x), before)
    names = [n for n, m in model.named_modules() if isinstance(m, TensorQuantizer | WeightQuantizer)]
    assert all(n.endswith(("_input_quantizer", "_weight_quantizer")) for n in names)
    assert {"stem.0._input_quantizer", "a._weight_quantizer", "pool._input_quantizer"} <= set(names)


def test_one_quantizer_a_tensor_and_one_scale_a_concat() -> None:
    model, _ = _quantized()
    assert model.a._input_quantizer is not model.c._input_quantizer
    assert model.add_0_1_input_quantizer is model.a._input_quantizer  # the residual input is what conv a reads
    assert model.c._input_quantizer.range is model.a._input_quantizer.range  # concat of the sum and the same input
    assert model.c._input_quantizer.range is not model.b._input_quantizer.range


def test_copies_pickles_and_half_keep_ranges() -> None:
    model, x = _quantized()
    expected = model(x)
    assert not torch.equal(expected, networks.residual()(x))
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    scales = [q.range.scale.clone() for q in activation_quantizers(model).values()]
    model.half().float()
    assert all(
        torch.equal(a, q.range.scale) for a, q in zip(scales, activation_quantizers(model).values(), strict=True)
    )
    other, _ = _quantized()
    for quantizer in activation_quantizers(other).values():
        quantizer.range.set_amax(9.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_folding_changes_no_integer() -> None:
    model, x = _quantized()
    folded = copy.deepcopy(model)
    weight, scale = model.stem[0].weight, model.stem[0]._weight_quantizer.scale
    before = torch.round(weight / scale.view(-1, 1, 1, 1)).abs()
    fold_batch_norms(folded, [("stem.0", "stem.1")])
    conv = folded.stem[0]
    after = torch.round(conv.weight / conv._weight_quantizer.scale.view(-1, 1, 1, 1)).abs()
    assert (before != after).float().mean() < 1e-3  # ties may fall to either side
    assert isinstance(folded.stem[1], torch.nn.Identity)
    set_mode(model, Mode.OFF)
    set_mode(folded, Mode.OFF)
    assert torch.allclose(model(x), folded(x), atol=1e-5)


def test_an_exception_inside_leaves_the_router_usable() -> None:
    model, x = _quantized()
    expected = model(x)
    with pytest.raises(RuntimeError):
        model(torch.rand(1, 5, 32, 32))
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_histograms_are_those_of_the_calibration_package(dtype: torch.dtype) -> None:
    """Compiled on the host, and with the operators that a device without Triton runs."""
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.randn(5000, generator=generator) * scale).to(dtype) for scale in (1, 0, 3000, 1e-4, 0.3)]
    host, device = (TensorCounter(2, torch.device("cpu"), compiled=compiled) for compiled in (True, False))
    for part in parts:
        host.add(1, part)
        device.add(1, part)
    expected = histogram_of(torch.cat(parts).float().numpy())
    for counter in (host, device):
        untouched, found = counter.histograms()
        assert (found.exponent, found.amax, untouched.amax) == (expected.exponent, expected.amax, 0.0)
        assert np.array_equal(found.counts, expected.counts)
    for counter in (host, device):
        counter.add(0, torch.tensor([float("inf"), 1.0, float("nan")]))
        assert np.isnan(counter.histograms()[0].amax)


def test_tensors_that_wait_for_a_launch_are_counted_like_others() -> None:
    """Of any dtype and layout, one row several times, more than a launch takes."""
    generator = torch.Generator().manual_seed(1)
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    tensors = [(i % 5, torch.randn(3, 4, 6, 5, generator=generator).to(kinds[i % 4]) * 9 ** (i % 3)) for i in range(50)]
    tensors[7] = (2, tensors[7][1].to(memory_format=torch.channels_last)[:, :, ::2])
    for compiled in (True, False):
        alone, waiting = (TensorCounter(5, torch.device("cpu"), compiled=compiled) for _ in range(2))
        for row, x in tensors:
            alone.add(row, x)
        with waiting.together():
            for row, x in tensors:
                waiting.add(row, x)
        waiting.add(0, torch.full((9,), 1e6))
        alone.add(0, torch.full((9,), 1e6))
        for one, other in zip(alone.histograms(), waiting.histograms(), strict=True):
            assert np.array_equal(one.counts, other.counts)
            assert (one.amax, one.exponent) == (other.amax, other.exponent)


def test_a_tensor_that_is_written_over_while_it_waits_is_noticed() -> None:
    counter = TensorCounter(1, torch.device("cpu"))
    x = torch.randn(8)

    def overwritten() -> None:
        with counter.together():
            counter.add(0, x)
            torch.relu_(x)

    with torch.no_grad(), pytest.raises(Changed):
        overwritten()
    assert counter.histograms()[0].total == 0
    counter.add(0, x)  # no longer waits
    assert counter.histograms()[0].total == 8


def test_faults_are_one_line() -> None:
    model, x = _quantized()
    traced = trace(networks.residual(), x)
    with pytest.raises(QuantbenchError, match="quantizers already"):
        insert(model, traced, plan_for(traced, PlacementOptions()))
    with pytest.raises(QuantbenchError, match="no range for tensor input"):
        apply_ranges(model, Ranges({"other": TensorRange(1.0)}))
    with pytest.raises(QuantbenchError, match="no calibration images"):
        calibrate(model, list, "minmax")
    with pytest.raises(QuantbenchError, match="overflows"):
        calibrate(model, lambda: [torch.full((1, 3, 32, 32), float("inf"))], "minmax")
