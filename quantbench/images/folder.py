"""ImageFolder: the images under a folder, sorted by path."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.decode import SUFFIXES, BadImageError, decode_file
from quantbench.images.remember import remembered_sha256
from quantbench.images.source import combined_sha256
from quantbench.images.truth import PictureLabel
from quantbench.images.unchanged import Unchanged

LabelOf = Callable[[PurePosixPath], PictureLabel]


class ImageFolder:
    """Pictures of all JPEG, PNG, BMP, WebP and TIFF files under `path`, sorted by their path relative to it.

    Hidden files are left out; links are followed. `label_of` gives the label of a relative path (see `labels` and
    `yolo_labels`). Raises QuantbenchError for a folder that is missing, is none, or holds no image.
    """

    def __init__(self, path: Path | str, recursive: bool = True, label_of: LabelOf | None = None) -> None:
        self.path = Path(path)
        self.names = list_images(self.path, recursive)
        self._label_of = label_of
        self._hashes: dict[int, str] = {}
        self._unchanged = Unchanged()

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> Image.Image:
        """The decoded, upright picture. Raises BadImageError with the file's path; QuantbenchError where the file was
        changed since it was hashed."""
        path = self.path / self.names[index]
        try:
            picture = decode_file(path)
        finally:
            self._unchanged.check(path)
        return picture

    def name(self, index: int) -> str:
        """Path relative to the folder, with `/`; bytes that are no UTF-8 as escapes."""
        return os.fsencode(self.names[index]).decode("utf-8", "backslashreplace")

    def label(self, index: int) -> PictureLabel:
        """What `label_of` says of the relative path, or None."""
        return self._label_of(PurePosixPath(self.names[index])) if self._label_of else None

    def file_sha256(self, index: int) -> str:
        """SHA-256 of the file's bytes. Raises BadImageError where it cannot be read."""
        if index not in self._hashes:
            path = self.path / self.names[index]
            try:
                self._unchanged.note(path)
                self._hashes[index] = remembered_sha256(path)
            except OSError as error:
                raise BadImageError(str(path), f"cannot be read: {error.strerror or error}") from error
        return self._hashes[index]

    def sha256(self) -> str:
        """Hash over all files and names: that of the text `sha256sum` prints for the sorted list."""
        return self.sha256_of(range(len(self.names)))

    def sha256_of(self, indices: Iterable[int]) -> str:
        """The same over some of the files; the others are not read."""
        return combined_sha256((self.file_sha256(index), self.names[index]) for index in indices)


def list_images(path: Path, recursive: bool = True) -> tuple[str, ...]:
    """Sorted relative paths (with `/`) of the image files under `path`. Raises QuantbenchError where there are none."""
    if not path.exists():
        raise QuantbenchError(f"image folder {path} does not exist")
    if not path.is_dir():
        raise QuantbenchError(f"{path} is a file, not a folder of images")
    found: list[str] = []
    others, tars = 0, ""
    for name in _walk(path, recursive):
        if name.lower().endswith(SUFFIXES):
            found.append(name)
        else:
            others += 1
            tars = tars or (name if name.lower().endswith(".tar") else "")
    if found:
        return tuple(sorted(found))
    kinds = ", ".join(SUFFIXES)
    if tars:
        raise QuantbenchError(
            f"no images in {path}, but tars; name them, such as {path / tars}: a folder of tar shards holds no folders"
        )
    if others:
        raise QuantbenchError(f"no images in {path}: {others} files, none of them with the ending {kinds}")
    raise QuantbenchError(f"image folder {path} is empty; put images into it ({kinds})")


def _walk(path: Path, recursive: bool) -> list[str]:
    names: list[str] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise QuantbenchError(f"cannot list {error.filename}: {error.strerror}") from error

    for folder, folders, files in os.walk(path, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        # A link to a folder above would make the walk endless.
        folders[:] = [] if real in seen or not recursive else [name for name in folders if not name.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        inside = Path(folder).relative_to(path)
        names.extend((inside / name).as_posix() for name in files if not name.startswith("."))
    return names
