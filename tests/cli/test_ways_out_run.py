"""What commands print of ways out over a corpus of ordinary and of wrong inputs is run, on the very input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.qdq.carry_out import carry_out
from quantbench.qdq.place import place
from tests.cli.ways_out import OPTION, commands, concrete, named_commands
from tests.ptq.small_run import write_data, write_model

Cli = Callable[..., tuple[int, str, str]]


class _Arrays(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [{"x": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@dataclass(frozen=True)
class Case:
    """Arguments of one call, in which {m}, {d} … stand for files of the corpus."""

    words: str
    fails: bool = True


CASES = (
    Case("lint {m}"), Case("predict {m}"), Case("lint {dynamic}"), Case("predict {dynamic}"), Case("ptq {dynamic}"),
    Case("lint {integers}"), Case("predict {integers}"), Case("ptq {integers} --calib-dir {d}"),
    Case("lint {uint8}"), Case("predict {uint8}", fails=False), Case("ptq {q} --calib-dir {d}"),
    Case("lint {misplaced}"), Case("predict {misplaced}", fails=False), Case("lint {q}", fails=False),
    Case("ptq {m}"), Case("ptq {m} --calib-dir {nowhere}"), Case("ptq {m} --calib-dir {empty}"),
    Case("ptq {m} --calib-dir {wrong}"), Case("ptq {m} --calib-dir {d} --calibrator entrophy"),
    Case("ptq {m} --calib-dir {d} --shapes z=1x3x8x8"),
    Case("ptq {m} --calib-dir {d} --keep-float nothing*"), Case("ptq {m} --calib-dir {d} --keep-float *"),
    Case("ptq {m} --calib-dir {d} --device nowhere"), Case("ptq {m} --calib-dir {d} --for 3.1"),
    Case("ptq {m} --calib-dir {d} --labels folder"),
    Case("ptq {m} --calib-dir {d} --eval-dir {wrong}"),
    Case("ptq {m} --calib-dir {d} --reuse-cache --refresh"), Case("ptq {m} --calib-dir {d} --target sm1"),
    Case("ptq {m} --calib-dir {d} --precision int4"),
    Case("ptq {m} --calib-dir {d} --plugin-precision n=int8"), Case("ptq {m} --input x={d} --input y={d}"),
    Case("ptq {m} --recipe nothing"),
    Case("ptq {open} --calib-dir {d}", fails=False), Case("ptq {open} --calib-dir {d12}"),
    Case("build {m} --precision int8 --backend onnxruntime"), Case("build {m} --precision int8 --target sm86"),
    Case("build {m} --backend onnxruntime --target sm86"), Case("build {m} --backend tensorrt"),
    Case("build {m} --timing-cache t --target sm86"), Case("build {m} --weakly-typed --target sm86"),
    Case("cache check {m} {cache}"), Case("cache check {cache} {other}", fails=False), Case("cache show {m}"),
    Case("cache to-qdq {cache} {other} -o {out}"), Case("cache to-qdq {cache} {q} -o {out}"),
    Case("cache from-qdq {m} -o {out}"), Case("cache from-qdq {integers} -o {out}"),
    Case("cache convert {cache} --to modelopt -o {out}"), Case("cache convert {cache} --to nothing -o {out}"),
    Case("eval {m} {other} --data {d}"), Case("eval {m} {nowhere} --data {d}"), Case("eval {m} --data {empty}"),
    Case("tune {m} --data {d}"), Case("sensitivity {m} --data {empty}"), Case("sensitivity {m}"), Case("sensitivity"),
    Case("tune {m} --min-sqnr 20"), Case("verify {empty}"), Case("verify {nowhere}"), Case("sweep nothing.yaml"),
    Case("bench {m} --cuda-graph"), Case("bench {cache}"), Case("inspect {nowhere}"), Case("inspect {d}/0.npy"),
    Case("tactics {cache}"), Case("refit {cache} {m} -o {out}"), Case("explain NoSuchPass"),
    Case("explain-node {m} conv9"), Case("report {empty}"), Case("recipes show nothing"), Case("device show nowhere"),
    Case("trtexec"), Case("record"),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    files = {
        name: folder / f"{name}.onnx" for name in ("dynamic", "integers", "uint8", "q", "misplaced", "other", "open")
    }
    files |= {"m": write_model(folder / "m.onnx"), "d": write_data(folder / "d"), "nowhere": folder / "nowhere"}
    files |= {name: folder / name for name in ("empty", "wrong", "d12", "out", "cache")}
    quantize_dynamic(files["m"], files["dynamic"])
    quantize_static(files["m"], files["integers"], _Arrays(), quant_format=QuantFormat.QOperator)
    quantize_static(files["m"], files["uint8"], _Arrays(), quant_format=QuantFormat.QDQ)
    model = load_model(files["m"])
    plan = place(view_of(model))
    ranges = Ranges({tensor: TensorRange(3.0) for tensor in plan.tensors})
    onnx.save(carry_out(model, plan, ranges).model, files["q"])
    onnx.save(_misplaced(), files["misplaced"])
    write_model(files["other"], seed=3)
    other = onnx.load(files["other"])
    for node in other.graph.node:
        node.input[:] = [f"o_{name}" for name in node.input]
        node.output[:] = [f"o_{name}" for name in node.output]
    for value in (*other.graph.input, *other.graph.output, *other.graph.initializer):
        value.name = f"o_{value.name}"
    onnx.save(other, files["other"])
    free = onnx.load(files["m"])
    for axis, name in ((2, "h"), (3, "w")):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(free, files["open"])
    files["empty"].mkdir()
    for name, shape in (("wrong", (4, 5, 8, 8)), ("d12", (4, 4, 12, 12))):
        files[name].mkdir()
        np.save(files[name] / "0.npy", np.zeros(shape, np.float32))
    files["cache"].write_text("TRT-8501-EntropyCalibration2\nx: 3c010a14\nb: 3c010a14\nd: 3c010a14\n")
    return files


def _misplaced() -> onnx.ModelProto:
    """Q/DQ behind convs and before Relus, twice with other scales, at one side of an Add, at a Concat."""
    rng = np.random.default_rng(0)
    stored = [numpy_helper.from_array(rng.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32), f"w{i}") for i in range(3)]
    nodes: list[onnx.NodeProto] = []

    def pair(tensor: str, name: str, scale: float) -> str:
        stored.extend([numpy_helper.from_array(np.float32(scale), f"{name}_s"),
                       numpy_helper.from_array(np.int8(0), f"{name}_z")])  # fmt: skip
        nodes.append(helper.make_node("QuantizeLinear", [tensor, f"{name}_s", f"{name}_z"], [f"{name}_q"], f"{name}_Q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_d"],
                                      f"{name}_DQ"))  # fmt: skip
        return f"{name}_d"

    def conv(tensor: str, index: int, out: str) -> None:
        weight = pair(f"w{index}", f"weight{index}", 0.01)
        nodes.append(helper.make_node("Conv", [tensor, weight], [out], f"conv{index}", pads=[1, 1, 1, 1]))

    conv(pair("x", "in", 0.03), 0, "a")
    nodes.append(helper.make_node("Relu", [pair("a", "before_relu", 0.05)], ["b"], "relu"))
    nodes.append(helper.make_node("Shape", ["b"], ["shape"], "shape_of"))
    conv(pair("b", "first", 0.04), 1, "c")
    nodes.append(helper.make_node("Add", ["c", "b"], ["e"], "add"))
    conv(pair("b", "second", 0.05), 2, "f")
    nodes.append(helper.make_node("Concat", [pair("e", "left", 0.1), pair("f", "right", 0.2)], ["y0"], "cat", axis=1))
    nodes.append(helper.make_node("Sigmoid", [pair("y0", "last", 0.3)], ["y"], "sigmoid"))
    graph = helper.make_graph(
        nodes, "misplaced", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 16, 16]),
         helper.make_tensor_value_info("shape", TensorProto.INT64, [4])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def called(cli: Cli, words: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    code, out, error = cli(*words)
    return code, out + error


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What ways out came to, by command: several sentences name the same one."""
    return {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_ways_out_are_ways_out(
    case: Case, corpus: dict[str, Path], known: dict[str, tuple[int, str]], cli: Cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = [word.format(**corpus) for word in case.words.split()]
    if words[0] == "ptq":
        words += ["--calibrator", "minmax"] if "--calibrator" not in words else []
        words += ["--no-compile"] if "--target" not in words else []
    code, text = called(cli, words, tmp_path, monkeypatch)
    assert code != 70
    assert (code != 0) is case.fails, text
    own = next(name for name in (" ".join(words[:2]), words[0]) if name in commands())
    for line in text.splitlines():
        named = list(named_commands(line))
        rest = line
        for one in named:
            rest = rest.replace(one.text, "")
            assert not [option for option in one.options if option not in commands()[one.command]], line
        for option in OPTION.findall(rest):
            assert option in commands()[own] | commands()[""], f"{own} has no {option}: {line}"
        for one in named:
            again = concrete(one, str(tmp_path / "again"), str(corpus["d"]))
            if again is None or again == words:
                continue
            key = " ".join(again).replace(str(tmp_path), "")
            if key not in known:
                known[key] = called(cli, again, tmp_path, monkeypatch)
            assert known[key][0] in (0, 1, 3), f"{line}\n{again}: {known[key][1]}"
