"""Small files that ask for much: each is refused in one line before anything is allocated."""

import gzip
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from quantbench import limits
from quantbench.cache.read import read_cache
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles
from quantbench.images.decode import BadImageError, decode_file
from quantbench.inspection.logs.lexer import read_events
from quantbench.recipe import load_recipe
from quantbench.yaml_file import read_yaml


def bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (bomb(), "aliases written out"),
        ("a: &a [*a]", "aliases written out"),
        ("calibration: " + "[" * 3000 + "]" * 3000, "not valid YAML|aliases written out"),
        ("d: 2026-13-45", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        ("#" * (limits.RECIPE_BYTES + 1), "over the bound"),
    ],
)
def test_yaml_that_asks_for_much_or_is_none(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(QuantbenchError, match=word) as error:
        load_recipe(path)
    assert len(str(error.value)) < 400


def test_a_huge_value_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"seed": "x" * 500_000}), encoding="utf-8")
    with pytest.raises(QuantbenchError, match="seed") as error:
        load_recipe(path)
    assert len(str(error.value)) < 300


def test_aliases_of_ordinary_files_work(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n", encoding="utf-8")
    assert read_yaml(path, "recipe")["c"] == [{"x": 1}, {"x": 1}]


def test_a_range_of_a_billion_numbers_is_refused(tmp_path: Path) -> None:
    """A pickle of a kilobyte can name a tensor of any shape over one number, with strides of 0."""
    path = tmp_path / "amax.pt"
    code = (
        b"\x80\x02}X\x17\x00\x00\x00a.input_quantizer._amaxctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"
        b"(M\xa8aM\xa8at(K\x00K\x00t\x89}tRs."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", code)
        archive.writestr("a/data/0", b"\0\0\x80?")
    with pytest.raises(QuantbenchError, match="over the bound"):
        read_cache(path)


def test_an_encoding_of_billions_of_bits_is_refused(tmp_path: Path) -> None:
    entry = {"bitwidth": 20_000_000_000, "scale": 0.1, "offset": -128, "dtype": "int", "is_symmetric": "True"}
    path = tmp_path / "a.encodings"
    path.write_text(json.dumps({"activation_encodings": {"x": [entry]}, "param_encodings": {}}), encoding="utf-8")
    with pytest.raises(QuantbenchError, match="20000000000 bits"):
        read_cache(path)


def test_an_array_of_no_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1, 64))
    header = path.read_bytes().replace(b"(1, 64)", b"(9**9,)"[:7])
    path.write_bytes(header)
    with pytest.raises(QuantbenchError):
        ArrayFiles(path)
    np.save(path, np.zeros((1_000_000, 0, 64), np.float32))
    with pytest.raises(QuantbenchError, match="expected a batch of numbers"):
        ArrayFiles(path)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "build.log.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(20):
            file.write(b"A" * limits.MIB)
    with pytest.raises(QuantbenchError, match="a line of the log"):
        list(read_events(path))


def test_a_device_is_no_picture() -> None:
    with pytest.raises(BadImageError, match="no regular file"):
        decode_file(Path("/dev/zero"))


def test_a_pickle_in_a_cache_stays_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(QuantbenchError):
        read_cache(path)
