"""YOLO labels: where they lie, what they say, and that boxes go where the pixels go."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from quantbench.errors import QuantbenchError
from quantbench.images.box_geometry import carried
from quantbench.images.decode import decode_file, upright_size
from quantbench.images.folder import ImageFolder
from quantbench.images.other_labels import from_coco, from_csv
from quantbench.images.preprocess import Preprocess, preset
from quantbench.images.source import Prepared, Subset
from quantbench.images.stream import batches
from quantbench.images.truth import PictureBoxes, Truth, labels_sha256
from quantbench.images.yolo_labels import from_yolo, label_file, read_boxes

WAYS = {
    "letterbox wide": Preprocess(letterbox=(96, 160)),
    "letterbox high": Preprocess(letterbox=(320, 200)),
    "exact": Preprocess(exact=(64, 192)),
    "shortest": Preprocess(shortest=77),
    "shortest and crop": Preprocess(shortest=80, crop=(72, 64)),
    "letterbox and crop": Preprocess(letterbox=(160, 160), crop=(120, 100)),
    "crop alone": Preprocess(crop=(90, 100)),
    "untouched": Preprocess(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(120, 200), (173, 101)])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_go_where_the_pixels_go(tmp_path: Path, way: str, size: tuple[int, int], orientation: int) -> None:
    """A white rectangle on black, labelled, is found where the carried box says, to a pixel."""
    height, width = size
    x0, y0, x1, y1 = 30, 34, 82, 96
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    stored = np.rot90(pixels, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(stored).save(tmp_path / "images/a.png", exif=exif)
    line = f"3 {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}\n"
    (tmp_path / "labels/a.txt").write_text(line)

    folder = ImageFolder(tmp_path / "images", label_of=from_yolo(tmp_path / "images"))
    (batch,) = batches(Subset(Prepared(folder, WAYS[way]), (0,)), 1)
    (truth,) = batch.labels
    assert isinstance(truth, Truth)
    assert truth.classes.tolist() == [3]
    white = batch.data[0, 0] > 180  # the letterbox is 114
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert np.abs(truth.boxes[0] - seen).max() <= 1.0


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_size_from_the_header_is_that_of_the_decoded_picture(tmp_path: Path, ending: str) -> None:
    for orientation in range(10):
        exif = Image.Exif()
        if orientation:
            exif[ExifTags.Base.Orientation] = orientation
        path = tmp_path / f"{orientation}.{ending}"
        Image.new("RGB", (31, 20)).save(path, exif=exif)
        picture = decode_file(path)
        assert upright_size(path) == (picture.height, picture.width)


def test_label_file_of_an_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert label_file(Path("/d/images/val/x.jpg")) == Path("/d/labels/val/x.txt")
    assert label_file(Path("/images/d/images/x.y.jpeg")) == Path("/images/d/labels/x.y.txt")
    assert label_file(Path("/d/myimages/images.jpg")) == Path("/d/myimages/images.txt")
    monkeypatch.chdir(tmp_path)
    assert label_file(Path("images/x.png")) == tmp_path / "labels/x.txt"


def test_what_lines_say(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text(
        "\ufeff1 0.5 0.5 0.5 0.25\r\n\n  2.0\t0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.5\n1 0.5 0.5 0.5 0.25\n0 1.0 0.5 0.1 1\n",
        encoding="utf-8",
    )
    truth = read_boxes(path, (100, 200))
    assert truth.classes.tolist() == [1, 2, 0]
    assert np.allclose(truth.boxes, [[50, 37.5, 150, 62.5], [20, 20, 60, 60], [190, 0, 200, 100]])
    for nothing in (tmp_path / "missing.txt", tmp_path / "empty.txt"):
        if nothing.stem == "empty":
            nothing.write_text("\n")
        assert read_boxes(nothing, (10, 10)).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.1", "4 numbers are neither a box nor an outline"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers are neither"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers are neither"),
        ("cat 0.5 0.5 0.1 0.1", "not all of it is numbers"),
        ("-1 0.5 0.5 0.1 0.1", "-1 is no class number"),
        ("1.5 0.5 0.5 0.1 0.1", "1.5 is no class number"),
        ("inf 0.5 0.5 0.1 0.1", "inf is no class number"),
        ("1e30 0.5 0.5 0.1 0.1", "1e30 is no class number"),
        ("0 160 120 64 48", "coordinates are shares of the image, 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "coordinates are shares"),
        ("0 0.5 0.5 -0.005 0.1", "width and height cannot be negative"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(QuantbenchError, match="line 3") as error:
        read_boxes(path, (10, 10))
    assert str(path) in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe0 0.5")
    with pytest.raises(QuantbenchError, match=r"cannot read labels .*x\.txt"):
        read_boxes(tmp_path / "x.txt", (10, 10))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(QuantbenchError, match=r"folder\.txt is a folder, not a file"):
        read_boxes(tmp_path / "folder.txt", (10, 10))


def test_boxes_outside_the_crop_are_out() -> None:
    boxes = np.array([[0, 0, 10, 10], [40, 40, 60, 60], [20, 20, 50, 50]], np.float64)
    label = PictureBoxes(Truth(boxes, np.array([0, 1, 2])), (100, 100))
    truth = carried(label, Preprocess(crop=(40, 40)))
    assert truth.classes.tolist() == [1, 2]
    assert truth.boxes.tolist() == [[10, 10, 30, 30], [0, 0, 20, 20]]
    empty = PictureBoxes(Truth(np.zeros((0, 4)), np.zeros(0, np.int64)), (100, 100))
    assert carried(empty, preset("yolo")).boxes.shape == (0, 4)


def test_hash_of_labels_tells_them_apart() -> None:
    one = Truth(np.array([[0.0, 0, 1, 1]]), np.array([0]))
    moved = Truth(np.array([[0.0, 0, 1, 2]]), np.array([0]))
    renamed = Truth(np.array([[0.0, 0, 1, 1]]), np.array([1]))
    lists = [[one], [moved], [renamed], [None], [0], [1], [one, None], [None, one], []]
    assert len({labels_sha256(labels) for labels in lists}) == len(lists)
    assert labels_sha256([one]) == labels_sha256([Truth(one.boxes.copy(), one.classes)])


def test_labels_that_are_numbers_beyond_all_bounds_are_named(tmp_path: Path) -> None:
    """int() takes no infinity and no more than 4,300 digits."""
    table, coco = tmp_path / "labels.csv", tmp_path / "coco.json"
    table.write_text("a.png,1\nb.png," + "9" * 5001 + "\n", encoding="utf-8")
    with pytest.raises(QuantbenchError, match=r"line 2: '9+\.\.\.9+' is neither a class number nor a class"):
        from_csv(table, ())
    coco.write_text('{"categories": [{"id": 1e999, "name": "a"}], "images": [], "annotations": []}', encoding="utf-8")
    with pytest.raises(QuantbenchError, match="holds no COCO annotations"):
        from_coco(coco, tmp_path, ())
