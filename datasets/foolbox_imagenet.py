"""Twenty ImageNet photos with labels (foolbox 3.3.4, MIT), for a quick top-1 check of ImageNet classifiers."""

import re

from quantbench.demo.packages import package_folder
from quantbench.errors import QuantbenchError
from quantbench.images.files import FilePictures
from quantbench.images.source import Pictures

INSTALL = "pip install --no-deps foolbox==3.3.4"


def pictures() -> Pictures:
    """20 photos of 512x512; label = ImageNet class 0 to 999, the last number in the file's name."""
    folder = package_folder("foolbox", "the data set foolbox-imagenet", INSTALL) / "data"
    files = sorted(folder.glob("imagenet_*.jpg"))
    if not files:
        raise QuantbenchError(f"this version of foolbox holds no photos in {folder}: {INSTALL}")
    labels = {}
    for file in files:
        match = re.fullmatch(r"imagenet_\d+_(\d+)", file.stem)
        if match:
            labels[file.name] = int(match.group(1))
    return FilePictures(files, labels)
