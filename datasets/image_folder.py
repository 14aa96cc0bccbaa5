"""A folder of images, with labels from the folders inside it or from the files' names."""

from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.images.folder import ImageFolder
from quantbench.images.labels import class_folders, from_file_name, from_folder
from quantbench.images.source import Pictures


def pictures(
    path: str,
    label: str = "none",
    pattern: str = r"(\d+)$",
    classes: list[str] | None = None,
    recursive: bool = True,
) -> Pictures:
    """Images under `path`. `label`: none; folder (class = the topmost folder's place in `classes`, by default the
    sorted list of the folders at hand); or file (class = the group of `pattern` in the file's name).
    """
    if label == "none":
        return ImageFolder(path, recursive)
    if label == "file":
        return ImageFolder(path, recursive, from_file_name(pattern))
    if label != "folder":
        raise QuantbenchError(f"image-folder: label is {label!r}; it can be none, folder or file")
    names = ImageFolder(path, recursive).names
    found = class_folders(names)
    if not found:
        raise QuantbenchError(f"{Path(path)} holds no folders to take classes from; use label: file, or none")
    unknown = [name for name in found if classes is not None and name not in classes]
    if unknown:
        raise QuantbenchError(f"folder {unknown[0]} in {path} is not in the list of classes")
    return ImageFolder(path, recursive, from_folder(classes or found))
