"""`quantbench ptq` on a trained detector and labelled scenes: boxes found again, mAP, and faults in the labels."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datasets.scenes import write_split
from quantbench.evaluate.boxes import detections
from quantbench.evaluate.task import facts_of, find_task
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.ort import create_session
from quantbench.qat.safe_load import quiet_ultralytics
from quantbench.qdq.place import place
from quantbench.runnable import runnable_part
from tests.ptq.nms_detector import with_plugin, with_suppression

MODEL = Path(__file__).parents[1] / "data" / "models" / "digit-detector.onnx"
RECIPE = Path(__file__).parents[2] / "recipes" / "yolov8.yaml"
IMAGES = 16


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO data set with COCO annotations beside: 4 training scenes, 16 test scenes."""
    root = tmp_path_factory.mktemp("scenes")
    write_split(root, "train", 4, 0)
    write_split(root, "test", IMAGES, 0)
    return root


@pytest.fixture
def command(scenes: Path, tmp_path: Path) -> Callable[..., tuple[object, ...]]:
    """The command on the scenes (or a copy of them) with the yolov8 recipe, less its latency. minmax: which method is
    best is judged elsewhere (tests/core)."""
    recipe = tmp_path / "yolov8.yaml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8") + "evaluation:\n  latency: false\n", encoding="utf-8")

    def build(root: Path = scenes, model: Path = MODEL, images: int = IMAGES) -> tuple[object, ...]:
        with recipe.open("a", encoding="utf-8") as text:
            text.write(f"  max_images: {images}\n")
        return ("ptq", model, "--recipe", recipe, "--calib-dir", root / "images/train", "--eval-dir",
                root / "images/test", "--labels", "yolo", "--out", tmp_path / "run", "--no-compile", "--calibrator",
                "minmax")  # fmt: skip

    return build


def independent(model: Path, scenes: Path) -> tuple[float, float, list[NDArray[Any]]]:
    """mAP50-95, mAP50 by faster-coco-eval, and the boxes above 0.25, after ultralytics' suppression."""
    from faster_coco_eval import COCO, COCOeval_faster

    quiet_ultralytics(trust=False)
    from ultralytics.utils.nms import non_max_suppression

    truth = COCO(str(scenes / "annotations/instances_test.json"))
    files = [scenes / "images/test" / image["file_name"] for image in truth.loadImgs(truth.getImgIds())]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    session = create_session(model)
    x = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    output = np.concatenate([session.run(None, {"images": x[i : i + 8]})[0] for i in range(0, len(x), 8)])
    # Of each image the 1,000 surest candidates, of which the 300 that count come: all would take its loops a minute.
    found = non_max_suppression(
        torch.from_numpy(output), 0.001, 0.7, multi_label=True, max_det=300, max_nms=1000, max_time_img=1e6
    )
    rows = [
        {"image_id": image, "category_id": int(label), "score": score, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for image, boxes in zip(truth.getImgIds(), found, strict=True)
        for x0, y0, x1, y1, score, label in boxes.tolist()
    ]
    judged = COCOeval_faster(truth, truth.loadRes(rows), "bbox", print_function=lambda *a: None)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return float(judged.stats[0]), float(judged.stats[1]), [boxes[boxes[:, 4] >= 0.25].numpy() for boxes in found]


def test_map_and_boxes_equal_those_of_others(cli, command, scenes: Path, tmp_path: Path) -> None:
    code, printed, error = cli(*command())
    assert code == 0, error
    out = tmp_path / "run"
    result = json.loads((out / "run.json").read_text())["evaluation"]
    outputs = result["outputs"]
    assert result["boxes"]["classes"] == 10
    assert outputs["map_change"]["count"] == IMAGES
    sure = {}
    for key, model in (("float", MODEL), ("int8", out / "model.ort.onnx")):
        wide, narrow, sure[key] = independent(model, scenes)
        # Labels are rounded to a millionth of the image; the 101 points round either way (tests/evaluate).
        assert outputs[f"map_{key}"]["value"] == pytest.approx(wide, abs=1e-3)
        assert outputs[f"map50_{key}"]["value"] == pytest.approx(narrow, abs=4e-3)
        assert wide > 0.75
    change = outputs["map_change"]
    assert change["value"] == pytest.approx(outputs["map_int8"]["value"] - outputs["map_float"]["value"])
    assert abs(change["value"]) < 0.015
    assert change["low"] < change["value"] < change["high"]
    count = sum(map(len, sure["float"]))
    assert outputs["boxes_kept"]["count"] == count
    assert outputs["boxes_shared"]["count"] == sum(map(len, sure["int8"]))
    # Boxes pair one to one, the surest first; the largest pairing there is may hold one more.
    apart = sum(map(_found, sure["float"], sure["int8"])) - outputs["boxes_kept"]["value"] * count
    assert abs(apart) <= 1 + 1e-6

    assert f"mAP50-95: {100 * outputs['map_float']['value']:.1f}"[:11] in printed
    assert "boxes of FP32 that INT8 finds too: 9" in printed
    text = (out / "report.md").read_text()
    assert "Output boxes [N, 14, 2000] is taken as YOLO boxes" in text
    assert f"| Boxes of FP32 that INT8 finds too | {100 * outputs['boxes_kept']['value']:.1f} % (" in text
    assert f"{count} boxes |" in text
    page = (out / "report.html").read_text()
    assert "mAP50-95, INT8 against FP32" in page
    assert page.count('<img src="data:image/jpeg;base64,') == 3

    # Other labels on the same images are measured anew, and nothing else is done anew.
    ranges = (out / "ranges.json").stat().st_mtime_ns
    other = tmp_path / "other"
    shutil.copytree(scenes, other)
    for file in (other / "labels/test").iterdir():
        file.write_text(file.read_text().splitlines()[0])
    code, _, error = cli(*command(other))
    assert code == 0, error
    again = json.loads((out / "run.json").read_text())["evaluation"]["outputs"]
    assert again["boxes_kept"] == outputs["boxes_kept"]
    assert again["map_float"]["value"] < outputs["map_float"]["value"] - 0.1
    assert (out / "ranges.json").stat().st_mtime_ns == ranges


def _found(a: NDArray[np.float32], b: NDArray[np.float32]) -> int:
    """Boxes of `a` that pair with one of their own of the same class and an IoU of at least 0.5 in `b`, by
    ultralytics' definition of IoU: a box of `b` serves one of `a` alone."""
    from scipy.optimize import linear_sum_assignment
    from ultralytics.utils.metrics import box_iou

    same = torch.from_numpy(a[:, None, 5] == b[None, :, 5])
    overlap = box_iou(torch.from_numpy(a[:, :4]), torch.from_numpy(b[:, :4]))
    fits = ((overlap >= 0.5) & same).numpy()
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return int(fits[rows, columns].sum())


def test_suppression_in_the_graph_is_quantized_up_to_its_boxes(cli, command, scenes: Path, tmp_path: Path) -> None:
    """NonMaxSuppression of ONNX: its inputs stay float, and the boxes that it leaves are compared."""
    model = tmp_path / "nms.onnx"
    onnx.save(with_suppression(onnx.load(str(MODEL))), model)
    code, _, error = cli(*command(model=model))
    assert code == 0, error
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    bare = place(view_of(load_model(MODEL)))
    assert set(record["placement"]["quantized"]) == {site.node for site in bare.weights}
    assert record["placement"]["kept_float"] == dict(bare.kept_float)
    outputs = record["evaluation"]["outputs"]
    assert outputs["map_change"]["count"] == IMAGES
    assert outputs["map50_float"]["value"] > 0.9
    assert abs(outputs["map50_change"]["value"]) < 0.02
    assert outputs["boxes_kept"]["value"] > 0.9
    sessions = [create_session(file) for file in (model, tmp_path / "run" / "model.ort.onnx")]
    picture = np.asarray(Image.open(scenes / "images/test/000000.jpg")).transpose(2, 0, 1)[None] / np.float32(255)
    plain, int8 = (session.run(None, {"images": picture})[0][0] for session in sessions)
    assert list(plain[plain[:, 4] > 0, 5]) == list(int8[int8[:, 4] > 0, 5]) != []
    np.testing.assert_allclose(int8[0, :4], plain[0, :4], atol=4)


def test_boxes_are_scored_where_a_plugin_suppresses_them(cli, command, scenes: Path, tmp_path: Path) -> None:
    """At the inputs of EfficientNMS_TRT, by its thresholds and box coding; what it leaves is what the same suppression
    in the graph leaves."""
    model = tmp_path / "plugin.onnx"
    onnx.save(with_plugin(onnx.load(str(MODEL))), model)
    code, _, error = cli(*command(model=model, images=4))
    assert code == 0, error
    assert "boxes are suppressed here as it does it" in error
    evaluation = json.loads((tmp_path / "run" / "run.json").read_text())["evaluation"]
    outputs = evaluation["outputs"]
    assert outputs["map_change"]["count"] == 4
    assert outputs["map50_float"]["value"] > 0.9
    assert outputs["boxes_kept"]["value"] > 0.9
    assert outputs["boxes_kept"]["unit"] == "boxes"
    assert (evaluation["boxes"]["nms_iou"], evaluation["boxes"]["confidence"]) == (0.7, 0.25)
    assert "plugin nms (EfficientNMS_TRT: IoU 0.7, score 0.25, 50 boxes)" in evaluation["boxes"]["why"]
    assert "suppressed here as the plugin does it, at IoU 0.7" in (tmp_path / "run" / "report.md").read_text()
    code, printed, error = cli("eval", model, tmp_path / "run" / "model.qdq.onnx", "--data", scenes / "images/test",
                               "--labels", "yolo", "--preprocess", "yolo", "--max-images", 4)  # fmt: skip
    assert code == 0, error
    assert "mAP50" in printed


@pytest.mark.parametrize("op", ["EfficientNMS_TRT", "BatchedNMS_TRT"])
def test_a_plugin_leaves_what_suppression_in_the_graph_leaves(scenes: Path, op: str) -> None:
    inside = create_session(with_suppression(onnx.load(str(MODEL))))
    whole = with_plugin(onnx.load(str(MODEL)), op)
    session, facts = create_session(runnable_part(whole)), facts_of(whole)
    for file in sorted((scenes / "images/test").glob("*.jpg"))[:6]:
        x = {"images": np.asarray(Image.open(file)).transpose(2, 0, 1)[None] / np.float32(255)}
        outputs = session.run(None, x)
        task = find_task(outputs, facts)
        assert (task.kind, task.format, task.classes) == ("boxes", "suppressed", 10)
        assert task.shares is (op == "BatchedNMS_TRT")
        (mine,) = detections(outputs, task, (320, 320))
        theirs = inside.run(None, x)[0][0]
        np.testing.assert_allclose(mine, theirs[theirs[:, 4] > 0], rtol=1e-4, atol=1e-3)
        assert len(mine)


def refused(result: tuple[int, str, str], out: Path, *words: str) -> None:
    code, _, error = result
    lines = [line for line in error.splitlines() if line.startswith("quantbench: error:")]
    assert code == 2, error
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not out.exists()


@pytest.fixture
def copied(scenes: Path, tmp_path: Path) -> Path:
    """Three of the scenes, to be spoilt."""
    root = tmp_path / "copied"
    for part in ("images/train", "images/test", "labels/test"):
        (root / part).mkdir(parents=True)
        for file in sorted((scenes / part).iterdir())[:3]:
            shutil.copy(file, root / part)
    return root


def test_a_broken_line_is_told_before_anything_runs(cli, command, copied: Path, tmp_path: Path) -> None:
    file = copied / "labels/test/000001.txt"
    file.write_text(file.read_text() + "3 0.5 0.5 1.7 0.2\n")
    line = len(file.read_text().splitlines())
    refused(cli(*command(copied)), tmp_path / "run", f"{file}, line {line}", "coordinates are shares of the image")


def test_a_class_too_many_is_told_with_its_file(cli, command, copied: Path, tmp_path: Path) -> None:
    file = copied / "labels/test/000002.txt"
    file.write_text("10 0.5 0.5 0.2 0.2\n")
    refused(cli(*command(copied)), tmp_path / "run", str(file), "class 10 is none of the model's 10 classes (0 to 9)")


def test_no_labels_at_all(cli, command, copied: Path, tmp_path: Path) -> None:
    for file in (copied / "labels/test").iterdir():
        file.write_text("")
    refused(cli(*command(copied)), tmp_path / "run", "none of the 3 images", "3 of 3 label files exist, all empty")
    shutil.rmtree(copied / "labels")
    missing = copied / "labels/test/000000.txt"
    refused(cli(*command(copied)), tmp_path / "run", "none of the 3 images", f"{missing} does not exist")


def test_labels_without_their_images_or_for_arrays(cli, command, copied: Path, tmp_path: Path) -> None:
    whole = list(command(copied))
    place = whole.index("--eval-dir")
    refused(cli(*whole[:place], *whole[place + 2 :]), tmp_path / "run", "--labels yolo needs --eval-dir")
    arrays = tmp_path / "x.npz"
    np.savez(arrays, images=np.zeros((2, 3, 320, 320), np.float32))
    whole[place + 1] = arrays
    refused(cli(*whole), tmp_path / "run", "--labels yolo goes with image files", "x.npz")


def test_a_classifier_has_no_boxes(cli, command, small_model: Path, copied: Path, tmp_path: Path) -> None:
    refused(
        cli(*command(copied, small_model)), tmp_path / "run", "--labels yolo goes with a detector", "float32[1, 10]"
    )
