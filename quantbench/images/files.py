"""FilePictures: a chosen list of image files from anywhere, such as photos inside installed packages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.decode import decode_file
from quantbench.images.source import combined_sha256, file_sha256


class FilePictures:
    """Pictures of `files` in the given order, named by their file names, with `labels` by file name.

    Raises QuantbenchError where two files have one name, or there is none.
    """

    def __init__(self, files: Sequence[Path], labels: Mapping[str, int] | None = None) -> None:
        if not files or len({file.name for file in files}) != len(files):
            raise QuantbenchError("a list of pictures needs at least one file, and names that differ")
        self._files = tuple(files)
        self._labels = dict(labels or {})

    def __len__(self) -> int:
        return len(self._files)

    def picture(self, index: int) -> Image.Image:
        """The decoded, upright picture. Raises BadImageError."""
        return decode_file(self._files[index])

    def name(self, index: int) -> str:
        """The file's name without its folder."""
        return self._files[index].name

    def label(self, index: int) -> int | None:
        """Label of the file, or None."""
        return self._labels.get(self._files[index].name)

    def sha256(self) -> str:
        """Hash of contents and names. Raises QuantbenchError where a file cannot be read."""
        try:
            return combined_sha256((file_sha256(file), file.name) for file in self._files)
        except OSError as error:
            raise QuantbenchError(f"{error.filename} cannot be read: {error.strerror}") from error
