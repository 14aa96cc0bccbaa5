"""A YOLO data set is data: its download script is not run, its caches are not unpickled, its labels are found."""

import pickle
from pathlib import Path

import pytest
import yaml
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.qat.yolo_data import data_alone


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return (Path.write_text, (self.mark, "ran"))


def data_set(folder: Path, **more: object) -> Path:
    for split in ("train", "val"):
        (folder / "images" / split / "deep").mkdir(parents=True)
        (folder / "labels" / split / "deep").mkdir(parents=True)
        for place in ("a", "deep/b"):
            Image.new("RGB", (8, 8)).save(folder / "images" / split / f"{place}.png")
            (folder / "labels" / split / f"{place}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    path = folder / "data.yaml"
    declared = {"path": str(folder), "train": "images/train", "val": "images/val", "names": ["x"], **more}
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")
    return path


def test_links_to_images_and_labels_and_nothing_else(tmp_path: Path) -> None:
    data = data_set(tmp_path / "set", download="import os; os.system('touch ran')", masks_dir="masks")
    made = data_alone(data, tmp_path / "seen")
    clean = yaml.safe_load(made.read_text(encoding="utf-8"))
    assert sorted(clean) == ["names", "path", "train", "val"]
    for split in ("train", "val"):
        images = [Path(line) for line in (made.parent / clean[split]).read_text(encoding="utf-8").split()]
        assert [image.name.split("-")[1] for image in images] == ["a.png", "b.png"]
        for image in images:
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            assert Image.open(image).size == (8, 8)
            assert label.read_text(encoding="utf-8").startswith("0 0.5")


def test_a_planted_cache_is_not_where_ultralytics_looks(tmp_path: Path) -> None:
    """ultralytics loads the `.cache` beside the folder of the first label; there is none of the data set's there."""
    data = data_set(tmp_path / "set")
    for place in ("labels/train.cache", "labels/train/deep.cache", "images/train.cache"):
        (tmp_path / "set" / place).write_bytes(b"not read")
    made = data_alone(data, tmp_path / "seen")
    assert not list((tmp_path / "seen").rglob("*.cache"))
    first = Path((made.parent / "train.txt").read_text(encoding="utf-8").split()[0])
    assert first.parent == (tmp_path / "seen" / "images" / "train").resolve()
    assert not first.parent.is_symlink()


def test_training_reads_it_and_runs_nothing(tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    mark = tmp_path / "ran"
    data = data_set(tmp_path / "set", download=f"open({str(mark)!r}, 'w')")
    made = data_alone(data, tmp_path / "seen")
    found = check_det_dataset(str(made))
    assert found["nc"] == 1
    assert Path(found["train"]).name == "train.txt"
    assert not mark.exists()


@pytest.mark.parametrize("broken", ["missing", "empty", "no split", "list"])
def test_a_set_without_images_is_refused_and_not_downloaded(tmp_path: Path, broken: str) -> None:
    data = data_set(tmp_path / "set")
    declared = yaml.safe_load(data.read_text(encoding="utf-8"))
    if broken == "missing":
        declared["val"] = "images/nowhere"
    elif broken == "empty":
        (tmp_path / "set" / "none").mkdir()
        declared["val"] = "none"
    elif broken == "no split":
        del declared["val"]
    data.write_text(yaml.safe_dump([1] if broken == "list" else declared), encoding="utf-8")
    with pytest.raises(QuantbenchError, match=r"data\.yaml"):
        data_alone(data, tmp_path / "seen")


def test_a_hostile_pickle_would_have_run(tmp_path: Path) -> None:
    """That the danger is real: the object above does run when it is unpickled."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()
