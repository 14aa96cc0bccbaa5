"""Tar shards: samples as WebDataset groups them, read by offset and in order; hostile tars refused in one line."""

import json
import re
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantbench.data.sources import Classes, at_most, folder_source
from quantbench.errors import QuantbenchError
from quantbench.images import shards as shards_module
from quantbench.images.decode import BadImageError
from quantbench.images.preprocess import Preprocess
from quantbench.images.shard_arrays import ShardArrays
from quantbench.images.shard_names import is_shards, shard_files
from quantbench.images.shards import ShardPictures, Shards
from quantbench.images.source import Subset
from quantbench.images.stream import batches
from quantbench.images.tar_members import tar_members
from tests.images.tars import HOSTILE, picture, tar, write_shards

EIGHT = Preprocess(exact=(8, 8))


def pictures(count: int) -> dict[str, dict[str, bytes]]:
    return {f"{number:04d}": {"png": picture(number), "cls": str(number % 3).encode()} for number in range(count)}


def test_members_of_one_name_up_to_the_first_dot_are_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar({
        "./deep.er/1.PNG": picture(1), "b.jpg": picture(2), "b.png": picture(3), "deep.er/1.json": b"7", "README": b"",
        "._b.jpg": b"mac", ".git/x.png": b"", "__shard__": b"", "b.seg.png": picture(4), "c.txt": b"no picture",
    }))  # fmt: skip
    shards = Shards(path)
    found = {sample.key: sorted(sample.fields) for sample in shards.samples}
    assert found == {"deep.er/1": ["json", "png"], "b": ["jpg", "png", "seg.png"], "c": ["txt"]}
    source = ShardPictures(shards)
    assert source.names == ("deep.er/1.PNG", "b.jpg")
    assert [source.name(0), source.name(1)] == ["x.tar/deep.er/1.PNG", "x.tar/b.jpg"]
    np.testing.assert_array_equal(np.asarray(source.picture(1)), np.asarray(Image.open(_file(tmp_path, picture(2)))))


def _file(folder: Path, data: bytes) -> Path:
    (folder / "one.png").write_bytes(data)
    return folder / "one.png"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_and_long_names_are_those_of_tarfile(kind: int, tmp_path: Path) -> None:
    names = ["a.png", "d/" * 40 + "b.png", "n" * 90 + "/" + "ü" * 45 + ".png"]
    if kind != tarfile.USTAR_FORMAT:
        names.append("p" * 300 + ".png")
    path = tmp_path / "x.tar"
    path.write_bytes(tar({name: picture(number) for number, name in enumerate(names)}, kind))
    with tarfile.open(path) as opened:
        expected = [(info.name, info.offset_data, info.size) for info in opened]
    assert [(member.name, member.offset, member.size) for member in tar_members(path)] == expected
    assert [name for name, _, _ in expected] == names


def test_a_folder_a_pattern_and_one_tar(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", pictures(10), 4)
    (folder / "README.md").write_text("x")
    (folder / "._train-000.tar").write_bytes(b"mac")
    assert [file.name for file in shard_files(folder)] == ["train-000.tar", "train-001.tar", "train-002.tar"]
    whole = folder_source(folder, EIGHT)
    pattern = folder / "train-{000..002}.tar"
    assert whole.sha256() == folder_source(pattern, EIGHT).sha256()
    assert [len(whole), len(folder_source(folder / "train-002.tar", EIGHT))] == [10, 2]
    assert shard_files(folder / "train-{002,000}.tar") == [folder / "train-002.tar", folder / "train-000.tar"]
    assert [file.name for file in shard_files(folder / "train-00{0..2..2}.tar")] == ["train-000.tar", "train-002.tar"]
    for wrong, words in (
        ("{000..003}", "train-003.tar does not exist, one of 4 tars"),
        ("{7}", "is no range"),
        ("{0..999999999}", "--no-limits"),
        ("{000,000}", "twice"),
        ("9", "does not exist"),
    ):
        with pytest.raises(QuantbenchError, match=re.escape(words)):
            folder_source(folder / f"train-{wrong}.tar", EIGHT)
    # Images beside a tar are what the folder is for, as ever; so are those that were unpacked of it.
    (folder / "other").mkdir()
    assert not is_shards(folder)
    with pytest.raises(QuantbenchError, match=r"no images in .*, but tars; name them, such as .*train-00\d\.tar"):
        folder_source(folder, EIGHT)
    (folder / "other" / "a.png").write_bytes(picture(0))
    assert len(folder_source(folder, EIGHT)) == 1
    (folder / "a.png").write_bytes(picture(0))
    assert not is_shards(folder)


def test_the_digest_is_of_what_is_chosen_and_no_more_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = pictures(9)
    folder = write_shards(tmp_path / "a", samples, 3)
    few = at_most(folder_source(folder, EIGHT), 4)
    assert isinstance(few, Subset)
    first = few.sha256()
    samples["0001"]["png"] = picture(77)  # not among the four
    assert first == at_most(folder_source(write_shards(tmp_path / "b", samples, 3), EIGHT), 4).sha256()
    samples["0008"]["png"] = picture(78)
    assert first != at_most(folder_source(write_shards(tmp_path / "c", samples, 3), EIGHT), 4).sha256()
    read: list[tuple[str, int]] = []
    usual = shards_module.read_part
    monkeypatch.setattr(
        shards_module, "read_part", lambda path, at, size: (read.append((path.name, at)), usual(path, at, size))[1]
    )
    assert sum(map(len, batches(few, 2, workers=1))) == 4
    assert len(read) == 4
    assert read == sorted(read)


def test_a_set_too_large_for_its_headers_is_sampled_by_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_shards(tmp_path / "shards", pictures(32), 2)
    size = (folder / "train-000.tar").stat().st_size
    monkeypatch.setattr(shards_module, "INDEX_BYTES", 4 * size)
    few, more = Shards(folder, 8), Shards(folder, 9)
    assert [len(few.samples), few.described] == [8, f"{folder}, 4 of 16 tars"]
    assert len(more.samples) >= 9
    assert [sample.key for sample in few.samples[:4]] == ["0000", "0001", "0010", "0011"]


def test_a_global_header_and_a_long_name_behind_a_size_are_read(tmp_path: Path) -> None:
    """As git archive begins its tars; and two extended headers before one member."""
    data = picture(0, 24)
    info = tarfile.TarInfo("a.png")
    info.size = len(data)
    padded = data + bytes(-len(data) % 512)
    member = info.tobuf(tarfile.USTAR_FORMAT) + padded
    sized = tarfile.TarInfo.create_pax_global_header({"comment": "of a commit"})
    info.pax_headers = {"size": str(len(data))}
    own = info.tobuf(tarfile.PAX_FORMAT)[:-512]
    long = tarfile.TarInfo("n" * 200 + ".png")
    long.size = len(data)
    named = long.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "x.tar").write_bytes(sized + member + own + named + padded + sized + bytes(1024))
    found = tar_members(tmp_path / "x.tar")
    assert [(entry.name, entry.size) for entry in found] == [("a.png", len(data)), ("n" * 200 + ".png", len(data))]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_one_line(name: str, tmp_path: Path) -> None:
    data, words = HOSTILE[name]
    path = tmp_path / f"{name}.tar"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(QuantbenchError, match=re.escape(words)) as caught:
        folder_source(path, EIGHT)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_corrupt_member_is_named_with_its_tar(tmp_path: Path) -> None:
    samples = pictures(5)
    samples["0003"]["png"] = b"no picture"
    source = folder_source(write_shards(tmp_path / "shards", samples, 2), EIGHT)
    with pytest.raises(BadImageError, match=r"^train-001\.tar/0003\.png: not a JPEG"):
        source.load(3)
    with pytest.raises(QuantbenchError, match=r"train-001\.tar/0003\.png.*--max-bad"):
        list(batches(source, 2))
    assert sum(map(len, batches(source, 2, max_bad=1))) == 4


def test_a_tar_that_changes_under_a_run_is_told(tmp_path: Path) -> None:
    source = folder_source(write_shards(tmp_path / "shards", pictures(3), 3), EIGHT)
    source.load(0)
    path = tmp_path / "shards" / "train-000.tar"
    path.write_bytes(tar({"other.png": picture(9)}))
    with pytest.raises(QuantbenchError, match=r"train-000\.tar changed while the run read it"):
        source.load(1)


def test_labels_of_members_and_of_paths(tmp_path: Path) -> None:
    names = Classes(("cat", "dog", "owl"))
    path = tmp_path / "x.tar"
    path.write_bytes(tar({
        "dog/a1.png": picture(0), "dog/a1.cls": b"2\n", "owl/b2.png": picture(1), "owl/b2.txt": b"dog",
        "cat/c3.png": picture(2), "cat/c3.json": json.dumps({"label": 1}).encode(), "cat/d4.png": picture(3),
    }))  # fmt: skip
    found = {kind: [source.label(i) for i in range(len(source))]
             for kind in ("cls", "cls=json", "folder", "file-name")
             for source in [folder_source(path, EIGHT, kind, names)]}  # fmt: skip
    assert found == {"cls": [2, 1, 1, None], "cls=json": [None, None, 1, None], "folder": [1, 2, 0, 0],
                     "file-name": [1, 2, 3, 4]}  # fmt: skip
    for wrong, words in (("yolo", "of tar shards there are cls"), ("cls=target", "labels none of the 4 pictures")):
        with pytest.raises(QuantbenchError, match=words):
            folder_source(path, EIGHT, wrong, names)
    path.write_bytes(tar({"a.png": picture(0), "a.cls": b"cow"}))
    with pytest.raises(QuantbenchError, match=r"x\.tar/a\.cls holds 'cow', neither a class number"):
        folder_source(path, EIGHT, "cls", names)
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.png").write_bytes(picture(0))
    with pytest.raises(QuantbenchError, match="is of samples in tar shards"):
        folder_source(tmp_path / "imgs", EIGHT, "cls")


def test_arrays_come_as_they_are_stored(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float64).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "x.tar").write_bytes(tar({"a.npy": (tmp_path / "a.npy").read_bytes(), "a.cls": b"5", "b.npy": b"no"}))
    source = folder_source(tmp_path / "x.tar", EIGHT)
    assert isinstance(source, ShardArrays)
    np.testing.assert_array_equal(source.load(0), array.astype(np.float32))
    assert source.label(0) == 5
    with pytest.raises(BadImageError, match=r"x\.tar/b\.npy: cannot be read as an array"):
        source.load(1)
