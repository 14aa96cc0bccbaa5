"""Streaming: order, bounded memory, overlap with the consumer, and what happens to images that cannot be used."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.decode import BadImageError
from quantbench.images.folder import ImageFolder
from quantbench.images.preprocess import Preprocess, preset
from quantbench.images.source import Prepared, Subset
from quantbench.images.stream import batches


class Numbers:
    """A source of the numbers 0 to n-1 that counts what is loaded; `bad` ones fail, each load takes `delay` s."""

    def __init__(self, n: int, bad: tuple[int, ...] = (), delay: float = 0.0) -> None:
        self.n, self.bad, self.delay = n, bad, delay
        self.loaded = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.n

    def load(self, index: int) -> NDArray[Any]:
        time.sleep(self.delay * (1 + index % 3))
        with self._lock:
            self.loaded += 1
        if index in self.bad:
            raise BadImageError(f"{index}.jpg", "broken")
        return np.full((2, 2), index, np.float32)

    def name(self, index: int) -> str:
        return f"{index}.jpg"

    def label(self, index: int) -> int | None:
        return index % 10

    def sha256(self) -> str:
        return "0" * 64


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_does_not_depend_on_workers(workers: int) -> None:
    seen = list(batches(Numbers(23, delay=0.001), 5, workers=workers))
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3]
    assert [float(row[0, 0]) for batch in seen for row in batch.data] == list(range(23))
    assert seen[1].names == tuple(f"{i}.jpg" for i in range(5, 10))
    assert seen[1].indices == (5, 6, 7, 8, 9)
    assert seen[1].labels == (5, 6, 7, 8, 9)


def test_only_a_few_images_are_loaded_ahead() -> None:
    source = Numbers(1000)
    stream = batches(source, 4, workers=2)
    for number in range(1, 6):
        next(stream)
        time.sleep(0.05)
        assert source.loaded <= 4 * number + 2 * 4 + 2
    stream.close()
    assert source.loaded < 40


def test_next_batch_is_loaded_while_the_consumer_works() -> None:
    source = Numbers(16)
    stream = batches(source, 4, workers=2)
    next(stream)
    deadline = time.monotonic() + 5
    while source.loaded < 8 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert source.loaded >= 8


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    stream = batches(Numbers(50), 4)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_bad_images_are_named_and_skipped_up_to_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        seen = list(batches(Numbers(10, bad=(3, 7)), 4, max_bad=2))
    assert [index for batch in seen for index in batch.indices] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [len(batch) for batch in seen] == [4, 4]
    assert caplog.messages == ["skipped 3.jpg: broken", "skipped 7.jpg: broken"]


def test_on_bad_is_told_instead_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    list(batches(Numbers(10, bad=(3,)), 4, max_bad=1, on_bad=lambda error: told.append(error.name)))
    assert told == ["3.jpg"]
    assert not caplog.messages


def test_more_bad_images_than_allowed() -> None:
    with pytest.raises(QuantbenchError, match=r"an image cannot be used: 3\.jpg: broken\. .*--max-bad"):
        list(batches(Numbers(10, bad=(3, 7)), 4))
    with pytest.raises(QuantbenchError, match=r"more than 1 images cannot be used: 3\.jpg: broken; 7\.jpg: broken"):
        list(batches(Numbers(10, bad=(3, 7)), 4, max_bad=1))


def test_all_bad_is_an_error_whatever_the_limit() -> None:
    with pytest.raises(QuantbenchError, match=r"not one of 3 images can be used; the first: 0\.jpg: broken"):
        list(batches(Numbers(3, bad=(0, 1, 2)), 2, max_bad=100))


def test_folder_with_damage_end_to_end(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:30])
    source = Prepared(ImageFolder(tmp_path), Preprocess(exact=(4, 4)))
    told: list[str] = []
    seen = list(batches(source, 4, max_bad=1, on_bad=lambda error: told.append(str(error))))
    assert [float(row[0, 0, 0]) for batch in seen for row in batch.data] == [0, 1, 3, 4, 5]
    assert len(told) == 1
    assert "2.png" in told[0]


def test_picture_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "a.png")
    Image.new("RGB", (100, 300)).save(tmp_path / "small.png")
    source = Prepared(ImageFolder(tmp_path), Preprocess(crop=(224, 224)))
    with pytest.raises(QuantbenchError, match=r"small\.png: image of 300x100 is smaller than the crop of 224x224"):
        list(batches(source, 2))
    assert len(list(batches(Prepared(ImageFolder(tmp_path), preset("imagenet")), 2))) == 1


def test_shapes_that_differ_are_explained(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "b.png")
    source = Prepared(ImageFolder(tmp_path), Preprocess())
    with pytest.raises(QuantbenchError, match=r"differ in shape.*a\.png \[3, 20, 30\], b\.png \[3, 30, 20\]"):
        list(batches(source, 2))
    assert [batch.data.shape for batch in batches(source, 1)] == [(1, 3, 20, 30), (1, 3, 30, 20)]


def test_subset_keeps_order_and_names() -> None:
    part = Subset(Numbers(10), (7, 2))
    batch = next(batches(part, 8))
    assert batch.names == ("7.jpg", "2.jpg")
    assert batch.labels == (7, 2)
    assert part.sha256() != Subset(Numbers(10), (2, 7)).sha256()


def test_hash_of_a_source_sees_the_preprocessing(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    folder = ImageFolder(tmp_path)
    assert Prepared(folder, preset("imagenet")).sha256() != Prepared(folder, preset("yolo")).sha256()


@pytest.mark.parametrize(("size", "workers"), [(0, 1), (1, 0)])
def test_senseless_numbers_are_refused(size: int, workers: int) -> None:
    with pytest.raises(QuantbenchError, match="at least 1"):
        list(batches(Numbers(3), size, workers=workers))
