"""ImageFolder: what it finds, in which order, and the one line it says where there is nothing to find."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.decode import BadImageError
from quantbench.images.folder import ImageFolder
from quantbench.images.labels import class_folders, from_file_name, from_folder


def save(path: Path, colour: tuple[int, int, int] = (1, 2, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def test_sorted_by_relative_path_whatever_the_case_of_endings(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpg", "a/b.jpeg", "c.webp", "d.TIFF", "e.bmp"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    save(tmp_path / "._b.png")
    save(tmp_path / ".hidden/f.png")
    assert ImageFolder(tmp_path).names == ("a/b.jpeg", "a/z.jpg", "b.PNG", "c.webp", "d.TIFF", "e.bmp")
    assert ImageFolder(tmp_path, recursive=False).names == ("b.PNG", "c.webp", "d.TIFF", "e.bmp")


def test_linked_folders_are_read_and_loops_end(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/a.png")
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "imgs")
    assert ImageFolder(tmp_path / "imgs").names == ("linked/a.png",)


def test_faults_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match="does not exist"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(QuantbenchError, match="is empty; put images into it"):
        ImageFolder(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(QuantbenchError, match=r"no images in .*: 2 files, none of them with the ending \.jpg"):
        ImageFolder(tmp_path)
    with pytest.raises(QuantbenchError, match="is a file, not a folder"):
        ImageFolder(tmp_path / "a.txt")


def test_corrupt_file_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    with pytest.raises(BadImageError, match=r"broken\.jpg: "):
        ImageFolder(tmp_path).picture(0)


def test_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    save(tmp_path / "b.png", (9, 9, 9))
    save(tmp_path / "a.png")
    lines = "".join(f"{hashlib.sha256((tmp_path / n).read_bytes()).hexdigest()}  {n}\n" for n in ("a.png", "b.png"))
    assert ImageFolder(tmp_path).sha256() == hashlib.sha256(lines.encode()).hexdigest()


def test_hash_sees_content_and_name(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    first = ImageFolder(tmp_path).sha256()
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    renamed = ImageFolder(tmp_path).sha256()
    save(tmp_path / "b.png", (9, 9, 9))
    assert len({first, renamed, ImageFolder(tmp_path).sha256()}) == 3


def test_labels_from_folders_follow_the_list_of_classes(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/old/2.png", "3.png"):
        save(tmp_path / name)
    names = ImageFolder(tmp_path).names
    assert class_folders(names) == ("cat", "dog")
    folder = ImageFolder(tmp_path, label_of=from_folder(("bear", "cat", "dog")))
    assert {folder.name(i): folder.label(i) for i in range(3)} == {"cat/1.png": 1, "dog/old/2.png": 2, "3.png": None}


def test_labels_from_file_names(tmp_path: Path) -> None:
    for name in ("imagenet_00_243.png", "other.png"):
        save(tmp_path / name)
    folder = ImageFolder(tmp_path, label_of=from_file_name())
    assert [folder.label(i) for i in range(2)] == [243, None]
    folder = ImageFolder(tmp_path, label_of=from_file_name(r"_(\d+)_"))
    assert folder.label(0) == 0


@pytest.mark.parametrize("pattern", ["(", r"\d+", r"(\d)(\d)"])
def test_wrong_label_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(QuantbenchError, match="label pattern"):
        from_file_name(pattern)
