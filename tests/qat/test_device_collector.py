"""Calibration on a torch device: the card's path with the CPU in the card's place, bit for bit the compiled sweep; and
why a card cannot be used, in one line."""

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import quantbench
from quantbench.calibration.collect import Counts, collect
from quantbench.calibration.ort_outputs import Feed
from quantbench.calibration.sweep import histogram_of
from quantbench.calibrator import Calibrator
from quantbench.demo import efficientnet_lite0, resnet18
from quantbench.engines.base import BuildOptions
from quantbench.engines.build import build_engine
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.to_fp16 import to_fp16
from quantbench.ort import ProviderNotLoaded, Where, create_session
from quantbench.ort_cuda import CUDA, require_provider
from quantbench.ptq import prepare
from quantbench.ptq.calibrate_on import Place, place_of
from quantbench.qat.cards import card, require_number
from quantbench.qat.device_collector import torch_counter
from quantbench.qat.device_tensors import DeviceTensors
from quantbench.qdq.place import place
from quantbench.qdq.tensors import calibrated_tensors
from quantbench.report.blocks import Table
from quantbench.report.sections import provenance
from tests.ptq import small_run

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(3)
RESNET = resnet18.build(width=8, size=32, classes=10)
ROOT = Path(quantbench.__file__).parent.parent


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def network(nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], **stored: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in inputs.items()],
        [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_inputs() -> tuple[onnx.ModelProto, list[Feed]]:
    """Two convs whose results are added; the second input is taken as it comes."""
    nodes = [
        helper.make_node("Conv", ["left", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["right", "w"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["y"]),
    ]
    shape: list[int | str] = ["n", 3, 8, 8]
    model = network(nodes, {"left": shape, "right": shape}, w=normal(16, 3, 3, 3), v=normal(8, 16, 1, 1))
    return model, [{"left": normal(n, 3, 8, 8), "right": normal(n, 3, 8, 8)} for n in (4, 4, 4, 2)]


def sizes_that_change() -> tuple[onnx.ModelProto, list[Feed]]:
    """Pictures of several sizes; and how many of its values are kept hangs on the values, at times none."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Greater", ["x", "limit"], ["m"]),
        helper.make_node("NonZero", ["m"], ["where"]),
        helper.make_node("Transpose", ["where"], ["rows"], perm=[1, 0]),
        helper.make_node("GatherND", ["x", "rows"], ["kept"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    model = network(nodes, {"x": ["n", 3, "h", "w"]}, w=normal(16, 3, 3, 3), v=normal(8, 16, 1, 1),
                    limit=np.float32([1.5]))  # fmt: skip
    sizes = ((4, 8, 8), (4, 8, 8), (4, 8, 8), (4, 12, 6), (4, 12, 6), (4, 8, 8), (1, 5, 5))
    found: list[Feed] = [{"x": normal(n, 3, *size)} for n, *size in sizes]
    return model, [*found, {"x": np.zeros((4, 3, 8, 8), np.float32)}]


def batches(name: str, *sizes: int, side: int = 32) -> list[Feed]:
    return [{name: normal(size, 3, side, side)} for size in sizes]


def static() -> tuple[onnx.ModelProto, list[Feed]]:
    model = resnet18.build(width=8, size=32, classes=10)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    return model, batches("image", 4, 4, 3)


NETWORKS = {
    "resnet18": lambda: (RESNET, batches("image", 6, 6, 6, 3)),
    "resnet18, halves": lambda: (to_fp16(RESNET), batches("image", 6, 6, 6, 3)),
    "a static batch": static,
    "two inputs": two_inputs,
    "sizes that change": sizes_that_change,
    "efficientnet-lite0": lambda: (
        load_model(efficientnet_lite0.onnx_path()),
        batches(efficientnet_lite0.INPUT, 1, 1, 2, side=224),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_the_compiled_sweep(name: str) -> None:
    """By the kernel's stand-in on the host and by torch's operators, of all that is calibrated and all else that is
    floating point."""
    model, feeds = NETWORKS[name]()
    tensors = list(calibrated_tensors(view_of(model), place(view_of(model))))
    tensors += [name for name in ("m", "where", "kept") if any(name in node.output for node in model.graph.node)]
    expected = collect(model, feeds, tensors, threads=1)
    assert any(histogram.total for histogram in expected.values())
    for compiled in (True, False):
        found = collect(model, feeds, tensors, threads=1, begin=torch_counter(CPU, compiled=compiled))
        assert list(found) == list(expected)
        for tensor, histogram in found.items():
            known = expected[tensor]
            assert (histogram.amax, histogram.exponent) == (known.amax, known.exponent), tensor
            np.testing.assert_array_equal(histogram.counts, known.counts, tensor)


@pytest.mark.filterwarnings("error")
def test_arrays_that_may_not_be_written_to_are_taken_without_a_warning() -> None:
    feed = normal(4, 3, 32, 32)
    feed.flags.writeable = False
    found = collect(RESNET, [{"image": feed}], ["image", "logits"], threads=1, begin=torch_counter(CPU))
    np.testing.assert_array_equal(found["image"].counts, histogram_of(feed).counts)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_told_the_same(value: float) -> None:
    feeds = batches("image", 3, 3, 3)
    feeds[1]["image"][0, 0, 0, 0] = value
    tensors = place(view_of(RESNET)).tensors
    expected = collect(RESNET, feeds, tensors, threads=1)
    broken = [name for name, histogram in expected.items() if histogram.broken]
    assert "image" in broken
    for compiled in (True, False):
        found = collect(RESNET, feeds, tensors, threads=1, begin=torch_counter(CPU, compiled=compiled))
        assert [name for name, histogram in found.items() if histogram.broken] == broken
        assert all(np.array_equal(found[n].amax, expected[n].amax, equal_nan=True) for n in expected)


def test_memory_is_torch_s_from_the_second_batch_of_a_shape_on_and_the_same() -> None:
    runner = DeviceTensors(RESNET, ["image", *place(view_of(RESNET)).tensors[1:3]], CPU, threads=1)
    inner = create_session(RESNET, threads=1, outputs=[place(view_of(RESNET)).tensors[1]])
    places: list[int] = []
    for feed in batches("image", 4, 4, 4, 2, 2, 4):
        _, (_, first), (_, second) = runner.run(feed)
        assert len(first) == len(second) == len(feed["image"])
        np.testing.assert_array_equal(first.numpy(), inner.run(None, dict(feed))[0])
        held = {tensor.data_ptr() for tensor in runner._memory.values()}
        assert not held or {first.data_ptr(), second.data_ptr()} == held
        places.append(first.data_ptr() if held else 0)
    assert places[1] == places[2] != 0 != places[4]
    assert [places[i] for i in (0, 3, 5)] == [0, 0, 0]


def test_a_batch_that_fails_is_told_in_one_line_and_the_next_one_runs() -> None:
    model, _ = two_inputs()
    runner = DeviceTensors(model, ["c"], CPU, threads=1)
    good: Feed = {"left": normal(4, 3, 8, 8), "right": normal(4, 3, 8, 8)}
    for feed in (good, good):
        runner.run(feed)
    with pytest.raises(QuantbenchError, match="onnxruntime fails on a batch: ") as told:
        runner.run({"left": normal(4, 3, 8, 8), "right": normal(4, 3, 8, 6)})
    assert "\n" not in str(told.value)
    assert runner.run(good)[0][1].shape == (4, 16, 8, 8)


@pytest.fixture
def card_by_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is the card's path on the CPU."""
    monkeypatch.setattr(
        prepare, "place_of", lambda name: place_of(name) if name == "cpu" else Place(name, torch_counter(CPU))
    )


@pytest.mark.usefixtures("card_by_cpu")
@pytest.mark.parametrize("calibrator", ["auto", "minmax"])
def test_a_run_on_a_card_is_another_calibration_and_says_so(calibrator: str, tmp_path: Path) -> None:
    small_run.write_model(tmp_path / "m.onnx")
    small_run.write_data(tmp_path / "data")
    out = tmp_path / "run"
    on_cpu = small_run.run(tmp_path, out, calibrator=calibrator, threads=1)
    assert on_cpu.calibration.device == "cpu"
    before = small_run.outputs(out)
    on_card = small_run.run(tmp_path, out, calibrator=calibrator, threads=1, device="cuda")
    assert on_card.calibration.device == "cuda"
    table = provenance.section(on_card).blocks[0]
    assert isinstance(table, Table)
    assert "8 images on a CUDA card" in dict(table.rows)["Calibration"]
    assert on_card.stages["calibrate"].key != on_cpu.stages["calibrate"].key
    assert small_run.outputs(out) == before
    other_card = small_run.run(tmp_path, out, calibrator=calibrator, threads=1, device="cuda:1")
    assert other_card.stages["calibrate"].key == on_card.stages["calibrate"].key


def test_a_provider_that_is_not_there_is_not_replaced_in_silence() -> None:
    """onnxruntime itself warns at most, and computes on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("here it is there")
    with pytest.warns() if _built_without() else nullcontext(), pytest.raises(ProviderNotLoaded, match="on the CPU"):
        create_session(RESNET, where=Where(CUDA))


def _built_without() -> bool:
    import onnxruntime

    return CUDA not in onnxruntime.get_available_providers()


def test_onnxruntime_without_cuda_is_told_with_what_to_install() -> None:
    if not _built_without():
        pytest.skip("onnxruntime has its CUDA provider here")
    with pytest.raises(QuantbenchError, match=r"has no CUDAExecutionProvider; pip uninstall .* && pip install 'onnx"):
        require_provider()


def test_cards_that_are_not_there_are_told() -> None:
    with pytest.raises(QuantbenchError, match="no card cuda:7; this machine has cuda:0 alone"):
        require_number(7, 1)
    with pytest.raises(QuantbenchError, match="no card cuda:7; this machine has cuda:0 to cuda:3"):
        require_number(7, 4)
    require_number(3, 4)
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(QuantbenchError, match=r"^torch .* (is built without CUDA|sees no CUDA card); .*--device cpu"):
        card(0)
    with pytest.raises(QuantbenchError, match="calibrate on the CPU \\(device cpu\\)"):
        quantbench.quantize(RESNET, batches("image", 2), device="cuda")


@pytest.mark.parametrize("name", ["cudda", "cuda:", "cuda:x", "gpu", "CUDA", "cuda:1000000000000", ""])
def test_names_of_no_device_are_told(name: str) -> None:
    with pytest.raises(QuantbenchError, match="neither cpu nor cuda nor a card's number"):
        place_of(name)


def test_the_command_takes_one_device_of_each_kind(cli, tmp_path: Path) -> None:
    small_run.write_model(tmp_path / "m.onnx")
    base = ("ptq", tmp_path / "m.onnx", "--calib-data", small_run.write_data(tmp_path / "data"), "--no-compile",
            "--calibrator", "minmax", "--out", tmp_path / "run")  # fmt: skip
    for given, said in (
        (("cudda",), "neither cpu, cuda or cuda:1, to calibrate on, nor a learnt device"),
        (("cuda", "cpu"), "cuda and cpu, two to calibrate on"),
        (("orin", "a100"), "orin and a100, two to time on"),
    ):
        code, _, error = cli(*base, *(word for name in given for word in ("--device", name)))
        assert code == 2
        assert said in error
        assert len(error.splitlines()) == 1
    code, _, error = cli(*base, "--device", "cpu", "--device", "orin")
    assert code == 0, error
    code, _, error = cli("build", tmp_path / "m.onnx", "--backend", "onnxruntime", "--device", "orin")
    assert (code, "neither cpu nor cuda nor a card's number" in error) == (2, True)


def test_a_build_calibrates_on_the_device_that_it_is_given(tmp_path: Path) -> None:
    """Where quantbench calibrates: onnxruntime has no calibrators."""
    model = small_run.write_model(tmp_path / "m.onnx")
    arrays = [np.load(file) for file in sorted(small_run.write_data(tmp_path / "data").iterdir())]
    made, seen = [], []

    def begin(model: onnx.ModelProto, tensors: Sequence[str], threads: int) -> Counts:
        seen.extend(tensors)
        return torch_counter(CPU)(model, tensors, threads)

    for where in (None, begin):
        calibrator = MinMax(lambda: iter([{"x": array} for array in arrays]), 4)
        options = BuildOptions(frozenset({"int8"}), calibrator=calibrator, begin=where)
        made.append(build_engine(model, options, "onnxruntime").engine)
    assert made[0] == made[1]
    assert "x" in seen


class MinMax(Calibrator):
    method = "minmax"


@pytest.fixture(scope="module")
def site_without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages but torch."""
    folder = tmp_path_factory.mktemp("site")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("torch", "__pycache__")) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_without_torch_the_line_says_what_to_install(site_without_torch: Path) -> None:
    code = "from quantbench.ptq.calibrate_on import place_of\nplace_of('cpu')\nplace_of('cuda:0')"
    environment = {"PYTHONPATH": f"{ROOT}:{site_without_torch}", "PATH": ""}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    line = done.stderr.splitlines()[-1]
    assert "counts with torch, which is not installed; pip install 'quantbench[qat]'" in line


@pytest.mark.parametrize("compiled", [True, False])
def test_a_pass_that_is_begun_again_has_forgotten_what_was_counted(compiled: bool) -> None:
    """A process that counts one piece of the data after the other has one session for all."""
    tensors = place(view_of(RESNET)).tensors
    first, second = batches("image", 3, 2)
    passing = torch_counter(CPU, compiled=compiled)(RESNET, tensors, 1)
    passing.add(first)
    passing.restart()
    passing.add(second)
    for name, histogram in collect(RESNET, [second], tensors, threads=1).items():
        found = passing.histograms()[name]
        assert (found.amax, found.exponent) == (histogram.amax, histogram.exponent)
        np.testing.assert_array_equal(found.counts, histogram.counts)
