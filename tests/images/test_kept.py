"""Pictures that several stages read are decoded once, while there is room for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantbench.images import folder
from quantbench.images.crops import RandomCrops
from quantbench.images.decode import decode_file
from quantbench.images.folder import ImageFolder
from quantbench.images.kept import Kept, Room, kept
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Prepared, Subset
from quantbench.images.stream import batches

AS_FLOAT32 = 4 * 3 * 6 * 6


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []

    def counted(path: Path) -> Image.Image:
        names.append(path.name)
        return decode_file(path)

    monkeypatch.setattr(folder, "decode_file", counted)
    return names


def pictures(path: Path) -> Prepared:
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return Prepared(ImageFolder(path), Preprocess(mean=(127.0,), std=(128.0,)))


def all_of(source: Prepared | Subset) -> np.ndarray:
    return np.concatenate([batch.data for batch in batches(source, 2)])


def test_each_picture_is_decoded_once_whoever_reads_it(tmp_path: Path, decoded: list[str]) -> None:
    plain = pictures(tmp_path)
    expected = all_of(plain)
    decoded.clear()
    source = kept(plain, Room())
    few = Subset(source, (1, 3))
    np.testing.assert_array_equal(all_of(few), expected[[1, 3]])
    for _ in range(2):
        np.testing.assert_array_equal(all_of(source), expected)
    assert sorted(decoded) == [f"{index}.png" for index in range(5)]
    assert source.sha256() == plain.sha256()
    assert few.sha256() == Subset(plain, (1, 3)).sha256()
    with pytest.raises(ValueError, match="read-only"):
        source.load(0)[:] = 0


def test_what_there_is_no_room_for_is_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    room = Room(3 * AS_FLOAT32)
    first = kept(Subset(pictures(tmp_path), (0, 1)), room)
    second = kept(pictures(tmp_path), room)
    expected = all_of(pictures(tmp_path))
    all_of(first)
    decoded.clear()
    for _ in range(2):
        np.testing.assert_array_equal(all_of(first), expected[:2])
        np.testing.assert_array_equal(all_of(second), expected)
    assert len(decoded) == 9
    assert kept(second, room) is second
    assert isinstance(second, Kept)


def test_a_photo_with_many_regions_is_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    photos = pictures(tmp_path).pictures
    crops = RandomCrops(photos, 20, seed=3)
    fresh = [np.asarray(RandomCrops(photos, 20, seed=3).picture(index)) for index in range(20)]
    decoded.clear()
    for index, expected in enumerate(fresh):
        np.testing.assert_array_equal(np.asarray(crops.picture(index)), expected)
    assert sorted(decoded) == [f"{index}.png" for index in range(5)]
    assert crops == RandomCrops(photos, 20, seed=3)
