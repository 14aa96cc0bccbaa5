"""Whatever no log or engine shows is marked at its layer, Q or DQ, in the table and in the JSON."""

import pytest

from quantbench.predict.evidence import ELSEWHERE, SEEN
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from quantbench.predict.words import lines, rows
from tests.predict.qdq_networks import Draft, mobilenet_v2, resnet18


def _predicted(d: Draft, output: str, version: str = "8.5") -> Prediction:
    return predict(d.view(("x",), (output,)), version=version, scales=d.scales)


def _start() -> tuple[Draft, str]:
    d = Draft()
    return d, d.qconv(d.tensor("x", (1, 32, 8, 8)), "first", 32, 3)


def test_engines_that_the_rules_were_drawn_from_need_no_guess_but_one() -> None:
    for network, guessed in ((resnet18(residual=True), set()), (resnet18(residual=False), {"formats"}),
                             (mobilenet_v2(), set())):  # fmt: skip
        view, scales = network
        prediction = predict(view, version="8.4", scales=scales)
        assert {why.partition(":")[0] for why in prediction.guesses.values()} == guessed
        assert not prediction.fate_guesses
        assert not prediction.version_guesses


def test_a_dq_with_several_readers_becomes_one_a_reader() -> None:
    """10.9 log: SplitDQAcrossFanOut, clones numbered from 0 in network order; no log of 8.5 shows it."""
    d, y = _start()
    y = d.quantized(d.node("Relu", [y], (1, 32, 8, 8)))
    weights = d.weights("second", (32, 32, 3, 3), "wq", "wdq")
    z = d.node("Conv", [y, weights], (1, 32, 8, 8), "conv", kernel_shape=(3, 3))
    out = d.node("Add", [z, y], (1, 32, 8, 8), "add")
    shared = next(n.name for n in d.nodes if n.outputs[0] == y)
    for version, expected in (("8.5", ELSEWHERE), ("10.9", SEEN)):
        prediction = _predicted(d, out, version)
        fates = {fate["name"]: fate for fate in prediction.to_json()["fates"]}
        assert fates[shared]["status"] == "split"
        assert fates[f"{shared}_clone_0"]["into"] == "conv"
        assert {fates[f"{shared}_clone_{i}"]["confidence"] for i in (0, 1)} == {expected}


def test_a_dq_and_a_q_of_one_scale_that_meet_go() -> None:
    """8.6.0 backbone log: DqQFusion, 4 times."""
    d, y = _start()
    y = d.quantized(d.quantized(y, "s"), "s")
    weights = d.weights("second", (32, 32, 3, 3), "wq", "wdq")
    out = d.node("Conv", [y, weights], (1, 32, 8, 8), "conv", kernel_shape=(3, 3))
    for version, expected in (("8.5", ELSEWHERE), ("8.6.0", SEEN)):
        prediction = _predicted(d, out, version)
        gone = [f.name for f in prediction.fates if f.status == "removed"]
        assert [prediction.fate_confidence[name] for name in gone] == [expected] * 2


def test_moving_past_what_no_log_shows_is_marked_and_past_a_pooling_is_not() -> None:
    for kind, marked in (("MaxPool", False), ("DepthToSpace", True)):
        d, y = _start()
        out = d.qconv(d.node(kind, [y], (1, 32, 8, 8), "mover"), "second", 32, 3)
        prediction = _predicted(d, out)
        assert any(s.what == "swap" for s in prediction.steps)
        assert bool(prediction.fate_guesses) is marked, kind


def test_layers_carry_the_number_of_their_guess() -> None:
    d, y = _start()
    y = d.node("Mul", [y, d.tensor("factor", (), constant=True)], (1, 32, 8, 8))
    out = d.qconv(y, "second", 32, 3)
    prediction = _predicted(d, out)
    assert [row[-1] for row in rows(prediction)] == ["", "guess 1", ""]
    last = list(lines(prediction))[-1]
    assert last.startswith("  1: a Mul or Add by constants goes into the layer before it")
    assert "1 layer (" in last


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("10.12", "nothing of TensorRT 10.12 is at hand"),
        ("10.14", "no Q/DQ log of TensorRT 10.14 is at hand"),
        ("10", ""),
    ],
)
def test_a_whole_version_without_logs_says_so(version: str, told: str) -> None:
    d, y = _start()
    prediction = _predicted(d, y, version=version)
    assert prediction.to_json()["version_guesses"] == list(prediction.version_guesses)
    assert any(line.startswith(f"  all: {told}") for line in lines(prediction)) is bool(told)


def test_int8_layers_of_kinds_that_no_log_shows_are_marked() -> None:
    for rank, marked in ((2, False), (3, True)):
        d = Draft()
        x = d.quantized(d.tensor("x", (4,) * (rank - 1) + (16,)))
        weights = d.weights("w", (16, 16), "wq", "wdq")
        out = d.node("MatMul", [x, weights], (4,) * (rank - 1) + (16,), "product")
        assert bool(_predicted(d, out).guesses) is marked, rank


def test_shape_arithmetic_and_dq_of_constants_are_no_layers() -> None:
    d, y = _start()
    shape = d.node("Shape", [y], (4,), "shape")
    first = d.node("Gather", [shape, d.tensor("zero", (), constant=True)], (), "gather")
    for name in (shape, first):
        d.tensors[name] = type(d.tensors[name])(name, d.shape(name), "int64")
    y = d.node("Reshape", [y, first], (1, 32, 64), "reshape")
    bias = d.weights("bias", (64,), "bias_q", "bias_dq")
    out = d.node("LayerNormalization", [y, bias], (1, 32, 64), "norm")
    prediction = _predicted(d, out)
    myelin = [layer for layer in prediction.layers if layer.type == "Myelin"]
    assert [layer.nodes for layer in myelin] == [("reshape", "norm")]
    assert [t.dtype for t in myelin[0].inputs] == ["FP32"]
    assert {layer.type for layer in prediction.layers} == {"Reformat", "CaskConvolution", "Myelin"}
    assert {f.name: f.status for f in prediction.fates}["bias_dq"] == "folded"
