"""Whatever no log or engine shows is marked at its layer, Q or DQ, in the table and in the JSON."""

from qdq_networks import Draft, mobilenet_v2, resnet18

from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from quantbench.predict.words import lines, rows


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


def test_a_dq_with_several_readers_is_marked_with_its_clones() -> None:
    d, y = _start()
    y = d.quantized(d.node("Relu", [y], (1, 32, 8, 8)))
    weights = d.weights("second", (32, 32, 3, 3), "wq", "wdq")
    z = d.node("Conv", [y, weights], (1, 32, 8, 8), "conv", kernel_shape=(3, 3))
    out = d.node("Add", [z, y], (1, 32, 8, 8), "add")
    prediction = _predicted(d, out)
    shared = next(n.name for n in d.nodes if n.outputs[0] == y)
    assert set(prediction.fate_guesses) == {shared, f"{shared}_clone_1"}
    marked = {f["name"]: f["guess"] for f in prediction.to_json()["fates"] if "guess" in f}
    assert marked == prediction.fate_guesses
    assert any(line.startswith("  1: a DQ with several readers") and "2 Q/DQ" in line for line in lines(prediction))


def test_a_dq_and_a_q_of_one_scale_that_cancel_are_marked() -> None:
    d, y = _start()
    y = d.quantized(d.quantized(y, "s"), "s")
    weights = d.weights("second", (32, 32, 3, 3), "wq", "wdq")
    out = d.node("Conv", [y, weights], (1, 32, 8, 8), "conv", kernel_shape=(3, 3))
    prediction = _predicted(d, out)
    assert len(prediction.fate_guesses) == 2
    assert {f.status for f in prediction.fates if f.name in prediction.fate_guesses} == {"removed"}


def test_moving_past_what_no_log_shows_is_marked_and_past_a_pooling_is_not() -> None:
    for kind, marked in (("MaxPool", False), ("DepthToSpace", True)):
        d, y = _start()
        out = d.qconv(d.node(kind, [y], (1, 32, 8, 8), "mover"), "second", 32, 3)
        prediction = _predicted(d, out)
        assert any(s.what == "swap" for s in prediction.steps)
        assert bool(prediction.fate_guesses) is marked, kind


def test_layers_carry_the_number_of_their_guess() -> None:
    d, y = _start()
    y = d.node("Mul", [y, d.node("Sigmoid", [y], (1, 32, 8, 8))], (1, 32, 8, 8))
    out = d.qconv(y, "second", 32, 3)
    prediction = _predicted(d, out)
    assert [row[-1] for row in rows(prediction)] == ["", "guess 1", ""]
    last = list(lines(prediction))[-1]
    assert last.startswith("  1: whether SiLU goes into the conv")
    assert "1 layer (" in last


def test_a_whole_version_without_logs_says_so() -> None:
    d, y = _start()
    prediction = _predicted(d, y, version="10")
    assert prediction.to_json()["version_guesses"] == list(prediction.version_guesses) != []
    assert any(line.startswith("  all: no Q/DQ log of TensorRT 10") for line in lines(prediction))


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
    assert [layer.nodes for layer in prediction.layers][2:] == [("reshape", "norm")]  # one Myelin layer
    assert [t.dtype for t in prediction.layers[2].inputs] == ["FP32"]
    assert {f.name: f.status for f in prediction.fates}["bias_dq"] == "folded"
