"""Data in tars and in pieces: the ranges of one process and a folder, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from tests.images.tars import picture, tar, write_shards
from tests.ptq.small_run import run, write_model

SAMPLES = {f"{number:02d}": {"png": picture(number)} for number in range(11)}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, eleven pictures in a folder and in three tars, and the run on the folder."""
    folder = tmp_path_factory.mktemp("many")
    write_model(folder / "m.onnx")
    (folder / "imgs").mkdir()
    for key, members in SAMPLES.items():
        (folder / "imgs" / f"{key}.png").write_bytes(members["png"])
    write_shards(folder / "shards", SAMPLES, 4)
    run(folder, folder / "one", calib_dir=folder / "imgs", batch_size=2, threads=1)
    return folder


def test_tars_give_the_ranges_of_the_folder(ground: Path, tmp_path: Path) -> None:
    wanted = (ground / "one" / "ranges.json").read_bytes()
    record = run(ground, tmp_path / "run", calib_dir=ground / "shards", batch_size=2, threads=1)
    assert (tmp_path / "run" / "ranges.json").read_bytes() == wanted
    pattern = run(
        ground, tmp_path / "run", calib_dir=ground / "shards" / "train-{000..002}.tar", batch_size=2, threads=1
    )
    assert {name: stage.provenance for name, stage in pattern.stages.items()} == {
        name: stage.provenance for name, stage in record.stages.items()
    }


def test_arrays_in_a_tar_give_the_ranges_of_arrays_in_a_folder(ground: Path, tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    (tmp_path / "data").mkdir()
    members = {}
    for number, array in enumerate(arrays):
        path = tmp_path / "data" / f"{number}.npy"
        np.save(path, array[None])
        members[f"{number}.x.npy"] = path.read_bytes()
    (tmp_path / "x.tar").write_bytes(tar(members))
    for data in ("data", "x.tar"):
        run(ground, tmp_path / f"run of {data}", calib_dir=tmp_path / data, batch_size=2, threads=1)
    found = [(tmp_path / f"run of {data}" / "ranges.json").read_bytes() for data in ("data", "x.tar")]
    assert found[0] == found[1]
