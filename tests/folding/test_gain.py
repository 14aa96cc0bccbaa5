"""Equalization, absorption and SmoothQuant where they should gain, told by the Q/DQ model's own outputs."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantbench.calibration.collect import collect
from quantbench.calibration.find_ranges import find_ranges
from quantbench.calibration.thresholds import threshold_method
from quantbench.core.quantize import for_onnxruntime
from quantbench.folding import rough_error, sites
from quantbench.folding.absorb import absorb
from quantbench.folding.equalize import equalize
from quantbench.folding.fold import fold
from quantbench.folding.rows import Samples
from quantbench.folding.sites import Looked, channels_of, look
from quantbench.folding.smooth import smooth
from quantbench.folding.together import mean_gain
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qdq.carry_out import Correction, carry_out
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from tests.folding.networks import network, tokens
from tests.folding.test_exact import outputs

PLAIN = PlacementOptions(head_float=False, tiny_channels=0)


@dataclass(frozen=True)
class Subject:
    model: onnx.ModelProto
    seen: list[dict[str, np.ndarray]]
    unseen: dict[str, np.ndarray]

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(site.node for site in place(view_of(self.model), PLAIN).weights)

    def look(self, *, roughly: bool = False) -> Looked:
        channels = channels_of(self.model, view_of(self.model), lambda: self.seen, threads=1)
        return look(self.model, channels, self.layers, Samples(lambda: self.seen, 32), roughly=roughly, threads=1)

    def sqnr(self, made: onnx.ModelProto) -> float:
        """Of the Q/DQ model of `made` against the float subject, on data that it was not calibrated on."""
        plan = place(view_of(made), PLAIN)
        histograms = collect(made, self.seen, plan.tensors, threads=1)
        ranges = find_ranges(histograms, "mse", threshold_method("mse"))
        quantized = carry_out(made, plan, ranges, Correction(lambda: self.seen, 32, 1)).model
        plain, int8 = outputs(self.model, self.unseen)[0], create_session(
            for_onnxruntime(quantized), threads=1).run(None, self.unseen)[0]  # fmt: skip
        return float(10 * np.log10((plain**2).sum() / ((plain - int8) ** 2).sum()))


def subject(model: onnx.ModelProto) -> Subject:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    random = np.random.default_rng(3)
    data = [random.normal(size=(8, *shape)).astype(np.float32) for _ in range(8)]
    return Subject(model, [{"x": part} for part in data[:4]], {"x": np.concatenate(data[4:])})


def mobilenet(activation: str = "Relu ({})") -> onnx.ModelProto:
    """Inverted bottlenecks in which the wide channels differ by a factor of up to 64, as trained MobileNets' do."""
    blocks, weights = "", {}
    random = np.random.default_rng(5)
    for block in range(3):
        x, y = f"x{block}" if block else "s", f"x{block + 1}"
        blocks += f"""
            a{block} = Conv ({x}, we{block}, be{block})
            b{block} = {activation.format(f"a{block}")}
            c{block} = Conv <pads = [1, 1, 1, 1], group = 24> (b{block}, wd{block}, bd{block})
            d{block} = {activation.format(f"c{block}")}
            e{block} = Conv (d{block}, wp{block}, bp{block})
            {y} = Add ({x}, e{block})"""
        for name, shape, spread in (("e", (24, 8, 1, 1), 6.0), ("d", (24, 1, 3, 3), 3.0), ("p", (8, 24, 1, 1), 0.0)):
            planted = np.exp2(random.uniform(-spread, 0, (shape[0], 1, 1, 1)))
            weights[f"w{name}{block}"] = random.normal(size=shape) / np.prod(shape[1:]) ** 0.5 * planted
            weights[f"b{name}{block}"] = 0.1 * random.normal(size=shape[0]) * planted.reshape(-1)
    return network(
        f"net (float[N, 3, 12, 12] x) => (float[N, 6, 12, 12] y) {{ t = Conv (x, w0) s = Relu (t) {blocks}\n"
        f"y = Conv (x3, w1) }}",
        w0=(8, 3, 1, 1), w1=(6, 8, 1, 1), zero=np.array(0.0), six=np.array(6.0), **weights,
    )  # fmt: skip


def test_equalization_gains_on_unequal_channels() -> None:
    given = subject(mobilenet())
    found = equalize(look_at := given.look(), given.layers)
    folded = fold(given.model, look_at.channels, found.scales)
    assert np.allclose(outputs(folded, given.unseen)[0], outputs(given.model, given.unseen)[0], atol=1e-4)
    assert len(found.sites) >= 6
    assert {site.alpha for site in found.sites} == {0.5}
    assert given.sqnr(folded) > given.sqnr(given.model) + 2.0


def test_equalization_keeps_within_what_a_relu6_lets_through() -> None:
    given = subject(mobilenet("Clip ({}, zero, six)"))
    found = equalize(look_at := given.look(), given.layers)
    assert found.sites
    folded = fold(given.model, look_at.channels, found.scales)
    seen = {"x": np.concatenate([feed["x"] for feed in given.seen])}
    assert np.allclose(outputs(folded, seen)[0], outputs(given.model, seen)[0], atol=1e-4)
    assert given.sqnr(folded) > given.sqnr(given.model) + 1.0


def test_equalization_says_why_it_leaves_a_network_of_silu_alone() -> None:
    given = subject(network(
        """net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
            a = Conv (x, w0)
            s = Sigmoid (a)
            b = Mul (a, s)
            y = Conv (b, w1)
        }""",
        w0=(16, 8, 1, 1), w1=(8, 16, 1, 1),
    ))  # fmt: skip
    found = equalize(given.look(), given.layers)
    assert not found.sites
    assert "Sigmoid" in next(entry.reason for entry in found.passed_by if entry.node == "node_of_y")


@pytest.mark.parametrize("relu", [True, False])
def test_high_biases_are_absorbed_and_nothing_changes_but_the_range(relu: bool) -> None:
    middle = "r = Relu (a)" if relu else ""
    given = subject(network(
        f"""net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {{
            a = Conv (x, w0, b0)
            {middle}
            y = Conv ({"r" if relu else "a"}, w1)
        }}""",
        w0=(16, 8, 1, 1), b0=np.linspace(0, 12, 16), w1=(8, 16, 1, 1),
    ))  # fmt: skip
    view = view_of(given.model)
    made, found = absorb(given.model, view, given.look().rows, given.layers)
    assert len(found) == 1
    assert found[0].share < 0.8
    seen = {"x": np.concatenate([feed["x"] for feed in given.seen])}
    assert np.allclose(outputs(made, seen)[0], outputs(given.model, seen)[0], atol=1e-4)
    assert given.sqnr(made) > given.sqnr(given.model) + 1.0


def test_a_padded_conv_absorbs_nothing() -> None:
    given = subject(network(
        """net (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {
            a = Conv (x, w0, b0)
            y = Conv <pads = [1, 1, 1, 1]> (a, w1)
        }""",
        w0=(16, 8, 1, 1), b0=np.linspace(0, 12, 16), w1=(8, 16, 3, 3),
    ))  # fmt: skip
    assert absorb(given.model, view_of(given.model), given.look().rows, given.layers)[1] == ()


def test_smoothquant_gains_where_a_norm_has_loud_channels() -> None:
    model = tokens()
    for tensor in model.graph.initializer:
        if tensor.name in ("gain", "gain2", "gain3"):
            values = numpy_helper.to_array(tensor).copy()
            values[3] *= 50
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        if tensor.name in ("w0", "w2", "w4", "w5"):
            values = numpy_helper.to_array(tensor).copy()
            values[3] /= 50
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    given = subject(model)
    found = smooth(look_at := given.look(), given.layers)
    folded = fold(model, look_at.channels, found.scales)
    assert np.allclose(outputs(folded, given.unseen)[0], outputs(model, given.unseen)[0], atol=1e-4)
    makers = {maker for site in found.sites for maker in site.makers}
    assert {"node_of_n", "node_of_scaled", "node_of_n3"} <= makers
    assert not found.passed_by
    assert given.sqnr(folded) > given.sqnr(model) + 3.0


@pytest.mark.parametrize("relu", ["Relu ({})", "Clip ({}, zero, six)"])
def test_a_rough_look_tells_what_a_better_one_does(relu: str) -> None:
    given = subject(mobilenet(relu))
    rough, exact = (equalize(given.look(roughly=roughly), given.layers) for roughly in (True, False))
    assert abs(mean_gain(rough, given.layers) - mean_gain(exact, given.layers)) < 1.0


def test_of_a_large_weight_some_outputs_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rough_error, "_ELEMENTS", 384 * 24)
    loud = np.exp2(np.random.default_rng(0).uniform(-6, 0, 384))
    random = np.random.default_rng(1)
    given = subject(
        network(
            """net (float[N, 8, 4, 4] x) => (float[N, 384, 4, 4] y) {
                a = Conv (x, w0)
                b = Relu (a)
                y = Conv (b, w1)
            }""",
            w0=random.normal(size=(384, 8, 1, 1)) * loud[:, None, None, None], w1=(384, 384, 1, 1),
        )
    )  # fmt: skip
    (few,) = equalize(given.look(roughly=True), given.layers).sites
    monkeypatch.undo()
    (whole,) = equalize(given.look(roughly=True), given.layers).sites
    assert few != whole
    assert whole.gain_db > 3
    assert abs(few.gain_db - whole.gain_db) < 0.5


def test_a_layer_too_large_to_be_judged_takes_no_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject(mobilenet())
    most = max(np.prod(tensor.dims) for tensor in given.model.graph.initializer)
    monkeypatch.setattr(sites, "_MOST_WEIGHTS", most - 1)
    assert 0 < len(equalize(given.look(), given.layers).sites) < 6
