"""Shapes, text options, refusals: everything that is decided before a build starts."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibrator import load_calibrator
from quantbench.engines.base import PRECISIONS, BuildOptions
from quantbench.engines.build_arguments import layer_precisions, pools, precisions, read_ranges
from quantbench.engines.facts import FACTS, LACKS, TENSORRT10, TENSORRT11, TENSORRT_RTX
from quantbench.engines.prepare import edit, with_own_thresholds
from quantbench.engines.refuse import asked, refuse_lacking
from quantbench.engines.shapes import Profile, complete_profiles, parse_profile
from quantbench.errors import QuantbenchError
from quantbench.graph.load import has_qdq
from quantbench.graph.onnx_view import view_of
from quantbench.ptq.given_calibrator import given_calibrator
from quantbench.ptq.request import DataChoice
from quantbench.qdq.place import place
from tests.engines.models import conv_net

EVERYTHING = BuildOptions(
    precisions=frozenset(PRECISIONS), strongly_typed=False, profiles=(Profile(),), targets=("sm86",),
    pools={"workspace": 1}, timing_cache=Path("t"), tactic_sources=("+A",), optimization_level=3, refittable=True,
    version_compatible=True, hardware_compatible="ampere_plus", sparsity=True, dla_core=0, gpu_fallback=True,
    layer_precisions=(("*", "fp32"),), precision_constraints="obey", plugins=(Path("p.so"),), serialize_plugins=True,
    exclude_lean_runtime=True, avg_timing=2, aux_streams=0, build_route="a", forbid_tactics=("0x1",),
    choose_tactics=(("*", "0x1"),), replay=Path("b.log"),
)  # fmt: skip


def test_profile_with_names_that_hold_colons() -> None:
    profile = parse_profile("input:0=1x3x8x8:2x3x8x8:4x3x8x8, mask=5")
    assert profile.shapes["input:0"] == ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    assert profile.shapes["mask"] == ((5,), (5,), (5,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not NAME="), ("1x3", "is not NAME="), ("x=1:2:3:4", "is not NAME="), ("x=1xa", "is no shape"),
        ("x=1x2:1:1", "differ in rank"), ("x=4:2:8", "min <= opt <= max"), ("x=-1", "negative"), ("=1", "is not NAME"),
    ],
)  # fmt: skip
def test_bad_profiles(text: str, message: str) -> None:
    with pytest.raises(QuantbenchError, match=message):
        parse_profile(text)


@given(st.text(max_size=40))
def test_any_text_is_a_profile_or_one_line(text: str) -> None:
    with contextlib.suppress(QuantbenchError):
        assert parse_profile(text).shapes


def test_only_a_dynamic_batch_is_filled_in() -> None:
    profiles, notes = complete_profiles({"x": (-1, 3, 8), "m": (2,)}, (), 4)
    assert profiles == (Profile({"x": ((1, 3, 8), (4, 3, 8), (4, 3, 8))}),)
    assert notes == ("input x has a dynamic batch: profile 1:4:4",)
    assert complete_profiles({"x": (2, 3)}, (), 4) == ((), ())
    with pytest.raises(QuantbenchError, match=r"input x has shape \?x3x\?: give --shapes"):
        complete_profiles({"x": (-1, 3, -1)}, (), 4)


def test_given_shapes_must_fit_the_model() -> None:
    with pytest.raises(QuantbenchError, match=r"gives x as 1x4, but the model has \?x3"):
        complete_profiles({"x": (-1, 3)}, (parse_profile("x=1x4"),), 4)
    with pytest.raises(QuantbenchError, match="gives x as 1, but"):
        complete_profiles({"x": (-1, 3)}, (parse_profile("x=1"),), 4)


@pytest.mark.parametrize(("option", "backend"), [(option, backend) for option, row in LACKS.items() for backend in row])
def test_each_row_of_the_table_refuses_in_one_line(option: str, backend: str) -> None:
    single = {
        "--target": {"targets": ("sm86",)}, "--weakly-typed": {"strongly_typed": False},
        "--layer-precision": {"layer_precisions": (("*", "fp32"),)},
        "--precision-constraints": {"precision_constraints": "obey"}, "--shapes": {"profiles": (Profile(),)},
        "--pool": {"pools": {"workspace": 1}}, "--timing-cache": {"timing_cache": Path("t")},
        "--tactic-sources": {"tactic_sources": ("+A",)}, "--optimization-level": {"optimization_level": 1},
        "--refittable": {"refittable": True}, "--version-compatible": {"version_compatible": True},
        "--hardware-compatible": {"hardware_compatible": "ampere_plus"}, "--sparsity": {"sparsity": True},
        "--dla-core": {"dla_core": 0}, "--gpu-fallback": {"gpu_fallback": True, "dla_core": None},
        "--plugin": {"plugins": (Path("p.so"),)}, "--serialize-plugins": {"serialize_plugins": True},
        "--exclude-lean-runtime": {"exclude_lean_runtime": True}, "--avg-timing": {"avg_timing": 2},
        "--aux-streams": {"aux_streams": 0}, "--build-route": {"build_route": "a"},
        "--forbid-tactic": {"forbid_tactics": ("0x1",)}, "--choose": {"choose_tactics": (("*", "0x1"),)},
        "--replay": {"replay": Path("b.log")},
    }  # fmt: skip
    word = option.removeprefix("--precision ")
    options = BuildOptions(**single[option]) if option in single else BuildOptions(precisions=frozenset({word}))
    assert list(asked(options)) == [option]
    with pytest.raises(QuantbenchError) as caught:
        refuse_lacking(options, backend, "9.9.9", gpu=True)
    message = str(caught.value)
    assert message.startswith(f"{FACTS[backend].title} 9.9.9 has no {option}: ")
    assert "\n" not in message
    assert LACKS[option][backend] in message


def test_table_and_options_name_the_same_things() -> None:
    spelled = set(asked(EVERYTHING))
    assert set(LACKS) <= spelled
    assert len(spelled) == 24 + len(PRECISIONS)


def test_refit_without_a_gpu() -> None:
    options = BuildOptions(refittable=True)
    with pytest.raises(QuantbenchError, match="needs an NVIDIA GPU for --refittable"):
        refuse_lacking(options, TENSORRT_RTX, "1.7", gpu=False)
    refuse_lacking(options, TENSORRT_RTX, "1.7", gpu=True)
    refuse_lacking(options, TENSORRT11, "11.4", gpu=False)


def test_options_that_go_in_pairs() -> None:
    with pytest.raises(QuantbenchError, match="--gpu-fallback goes with --dla-core"):
        refuse_lacking(BuildOptions(gpu_fallback=True), TENSORRT10, "10", gpu=True)
    with pytest.raises(QuantbenchError, match="--precision-constraints goes with"):
        refuse_lacking(BuildOptions(precision_constraints="obey"), TENSORRT10, "10", gpu=True)
    with pytest.raises(QuantbenchError, match="--serialize-plugins goes with --plugin"):
        refuse_lacking(BuildOptions(serialize_plugins=True), TENSORRT10, "10", gpu=True)
    with pytest.raises(QuantbenchError, match="--exclude-lean-runtime goes with --version-compatible"):
        refuse_lacking(BuildOptions(exclude_lean_runtime=True), TENSORRT10, "10", gpu=True)


def test_text_options() -> None:
    assert precisions("fp16,INT8, tf32") == {"fp16", "int8", "tf32"}
    assert pools(["workspace=4G", "tactic_dram=1.5M", "dla_local_dram=7", "a=2KB"]) == {
        "workspace": 4 << 30, "tactic_dram": 3 << 19, "dla_local_dram": 7, "a": 2048,
    }  # fmt: skip
    assert layer_precisions(["a=b/*=fp16"]) == (("a=b/*", "fp16"),)
    with pytest.raises(QuantbenchError, match="fp15"):
        precisions("fp15")
    for call, text in ((pools, "workspace"), (pools, "w=4T"), (layer_precisions, "x=fp8")):
        with pytest.raises(QuantbenchError, match=text):
            call([text])


def test_ranges_from_json_and_from_a_cache(tmp_path: Path, artefacts: Path) -> None:
    file = tmp_path / "ranges.json"
    file.write_text(json.dumps(Ranges({"x": TensorRange(2.5, "mse")}).to_json()))
    assert read_ranges(file)["x"].amax == 2.5
    assert read_ranges(tmp_path)["x"].amax == 2.5
    cache = read_ranges(artefacts / "calib" / "mlperf05_resnet.cache")
    assert len(cache) > 50
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(QuantbenchError, match=r"ranges .*bad\.json is no JSON"):
        read_ranges(tmp_path / "bad.json")


def test_int8_request_places_qdq_and_fp16_casts() -> None:
    model = conv_net()
    names = place(view_of(model)).tensors
    ranges = Ranges({name: TensorRange(4.0) for name in names})
    options = BuildOptions(precisions=frozenset({"int8", "fp16"}), ranges=ranges)
    changed, notes = edit(model, options, "m")
    assert has_qdq(changed)
    assert notes == (f"INT8: quantbench placed Q/DQ on {len(names)} tensors", "FP16: float parts cast in the ONNX")
    assert any(node.op_type == "Cast" for node in changed.graph.node)
    again, notes = edit(changed, BuildOptions(precisions=frozenset({"int8"})), "m")
    assert (again is changed, notes) == (True, ())
    best, notes = edit(model, BuildOptions(precisions=frozenset({"best"})), "m")
    assert not has_qdq(best)
    assert notes == ("FP16: float parts cast in the ONNX",)


def _batches() -> Iterator[dict[str, np.ndarray]]:
    yield {"x": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}


def test_own_thresholds_reach_tensorrt_10_as_ranges(tmp_path: Path) -> None:
    """TensorRT runs its own algorithms itself; percentile is none of them."""
    model = tmp_path / "m.onnx"
    onnx.save(conv_net(), str(model))
    for name in ("entropy2", "entropy", "minmax", "legacy"):
        options = BuildOptions(calibrator=load_calibrator(name)(_batches, 2))
        assert with_own_thresholds(model, options) is options
    changed = with_own_thresholds(model, BuildOptions(calibrator=load_calibrator("percentile")(_batches, 2)))
    assert changed.calibrator is None
    assert changed.ranges is not None
    assert {"x", "r0", "r1", "r2"} <= set(changed.ranges)
    onnx.save(edit(conv_net(), BuildOptions(precisions=frozenset({"int8"}), ranges=changed.ranges), "m")[0], str(model))
    explicit = BuildOptions(calibrator=load_calibrator("percentile")(_batches, 2))
    assert with_own_thresholds(model, explicit) is explicit


def test_a_calibrator_may_bring_its_own_data(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from quantbench.calibrator import Calibrator\n"
        "class Mine(Calibrator):\n"
        "    def restart(self):\n"
        "        self.left = 2\n"
        "    def get_batch(self, names):\n"
        "        self.left -= 1\n"
        "        return [np.ones((2, 3, 16, 16), np.float32)] if self.left >= 0 else None\n"
    )
    own = given_calibrator(tmp_path / "m.onnx", f"{file}:Mine", DataChoice(), 8)
    assert own is not None
    changed, notes = edit(conv_net(), BuildOptions(precisions=frozenset({"int8"}), calibrator=own), "m")
    assert has_qdq(changed)
    assert notes[0].startswith("INT8: quantbench placed Q/DQ on")
    assert given_calibrator(tmp_path / "m.onnx", "entropy2", DataChoice(), 8) is None


def test_a_model_with_a_plugin_keeps_its_calibrator_for_tensorrt(tmp_path: Path) -> None:
    model = conv_net()
    plugin = onnx.helper.make_node("Mine", [model.graph.output[0].name], ["boxes"], domain="trt.plugins")
    model.graph.node.append(plugin)
    onnx.save(model, str(tmp_path / "m.onnx"))
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (16, 16)).save(images / "a.png")
    calibrator = given_calibrator(tmp_path / "m.onnx", "entropy2", DataChoice(images), 1)
    assert calibrator is not None
    options = BuildOptions(precisions=frozenset({"int8"}), calibrator=calibrator)
    assert with_own_thresholds(tmp_path / "m.onnx", options) is options
    (batch,) = calibrator.batches()
    assert batch["x"].shape[0] == 1
