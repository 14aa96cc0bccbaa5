"""A YOLO data set as ultralytics may see it: images and labels, and nothing in it that ultralytics would run.

ultralytics executes the `download:` of a data.yaml whose images are missing, and unpickles `labels/*.cache`; both are
part of a data set, which is data. So it gets a data.yaml of ours, without what is no data, over a folder of links to
the images and labels alone; its own caches go there too.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from quantbench.errors import QuantbenchError
from quantbench.images.remember import remembered_sha256
from quantbench.images.source import combined_sha256, text_sha256
from quantbench.text_file import read_text
from quantbench.yaml_file import read_yaml

# What ultralytics reads of a data set and only looks at.
_KEPT = ("nc", "names", "channels", "kpt_shape", "flip_idx")
_IMAGES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)


def data_alone(data: Path, folder: Path) -> Path:
    """Fill `folder` (emptied first) with links to the images and labels that `data` names; returns its data.yaml.

    Raises QuantbenchError where `data` is no YOLO data set or a split of it has no images: nothing is downloaded.
    """
    declared = read_data_yaml(data)
    shutil.rmtree(folder, ignore_errors=True)
    clean: dict[str, Any] = {key: declared[key] for key in _KEPT if key in declared}
    clean["path"] = str(folder.resolve())
    for split in ("train", "val"):
        images = [image for source in split_sources(data, declared, split) for image in _images(source, data, split)]
        lines = [str(_linked(image, folder.resolve() / "images" / split, index)) for index, image in enumerate(images)]
        list_file = folder / f"{split}.txt"
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        clean[split] = list_file.name
    made = folder / "data.yaml"
    made.write_text(yaml.safe_dump(clean, sort_keys=False), encoding="utf-8")
    return made


def yolo_sha256(data: Path) -> str:
    """Hash over what `data` declares of its classes and over the images and labels of both splits, in their order.

    Raises QuantbenchError where there is no such data set, or a file of it cannot be read.
    """
    declared = read_data_yaml(data)
    entries = [(text_sha256(repr({key: declared.get(key) for key in _KEPT})), "data.yaml")]
    try:
        for split in ("train", "val"):
            for source in split_sources(data, declared, split):
                for image in _images(source, data, split):
                    label = _label_of(image)
                    entries.append((remembered_sha256(image), f"{split} {image.name}"))
                    entries += [(remembered_sha256(label), f"{split} {label.name}")] if label.is_file() else []
    except OSError as error:
        raise QuantbenchError(f"{data}: cannot read {error.filename}: {error.strerror or error}") from error
    return combined_sha256(entries)


def read_data_yaml(data: Path) -> dict[str, Any]:
    """What the data.yaml at `data` declares. Raises QuantbenchError where it is none."""
    declared = read_yaml(data, "data set")
    if not isinstance(declared, dict):
        raise QuantbenchError(f"{data} is no YOLO data set: it is not a mapping of keys to values")
    if "val" not in declared and "validation" in declared:
        declared["val"] = declared["validation"]
    for split in ("train", "val"):
        if not declared.get(split):
            raise QuantbenchError(f"{data} is no YOLO data set: it names no {split}: folder")
    return declared


def split_sources(data: Path, declared: dict[str, Any], split: str) -> list[Path]:
    """Folders or list files of `split`, relative to `path:`, which is relative to the data.yaml."""
    root = Path(str(declared.get("path") or data.parent))
    root = root if root.is_absolute() else data.parent / root
    given = declared[split]
    return [root / str(name) for name in (given if isinstance(given, list) else [given])]


def _images(source: Path, data: Path, split: str) -> list[Path]:
    if source.is_dir():
        found = sorted(file for file in source.rglob("*.*") if file.suffix.lower() in _IMAGES)
    elif source.is_file():
        lines = read_text(source, f"{data}: {split}:", encoding="utf-8-sig").split("\n")
        found = [source.parent / line.strip() for line in lines if line.strip()]
    else:
        raise QuantbenchError(f"{data}: {split}: {source} does not exist; nothing is downloaded, get the images first")
    if not found:
        raise QuantbenchError(f"{data}: {split}: {source} holds no images")
    return found


def _linked(image: Path, folder: Path, index: int) -> Path:
    """A link to `image` in `folder` and one to its label where ultralytics looks for it; the link's path."""
    image = Path(os.path.abspath(image))
    name = f"{index:07d}-{image.name}"
    _link(image, folder / name)
    label = _label_of(image)
    if label.is_file():
        _link(label, (folder.parent.parent / "labels" / folder.name / name).with_suffix(".txt"))
    return folder / name


def _label_of(image: Path) -> Path:
    """ultralytics' rule: the last `images` folder of the path becomes `labels`, the suffix .txt."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
