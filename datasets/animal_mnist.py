"""9,716 different animal silhouettes with labels (animal-mnist 0.4, MIT): harder than MNIST; split with a seed.

The package's own loader imports TensorFlow and unpickles whatever lies there; here the files are read directly, and
the pickles may hold arrays only.
"""

import gzip

from quantbench.demo.packages import package_file
from quantbench.errors import QuantbenchError
from quantbench.images.arrays_as_pictures import ArrayPictures, split_indices, without_duplicates
from quantbench.images.safe_pickle import load_array
from quantbench.images.source import Pictures

INSTALL = "pip install --no-deps animal-mnist==0.4"
CLASSES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")


def pictures(split: str = "test", test: int = 2000, seed: int = 0) -> Pictures:
    """Silhouettes of 28x28, grey, label 0 to 9. `split` is train, test or all; `test` is the size of the test part.

    Of the 10,000 pictures 284 equal another one; each is kept once, before splitting.
    """
    arrays = []
    for name in ("animal_data_version_3.gz", "animal_label_version_3.gz"):
        path = package_file("animal_mnist", f"data/Animal_MNIST/{name}", "the data set animal-mnist", INSTALL)
        with gzip.open(path, "rb") as stream:
            arrays.append(load_array(stream.read(), str(path)))
    pixels, labels = arrays
    kept = without_duplicates(pixels)
    train, held = split_indices(len(kept), test, seed)
    parts = {"train": kept[train], "test": kept[held], "all": kept}
    if split not in parts:
        raise QuantbenchError(f"animal-mnist: no split {split!r}; there are {', '.join(parts)}")
    return ArrayPictures(pixels[parts[split]], labels[parts[split]], f"animal-mnist-{split}")
