"""Data in tars and in pieces: the ranges of one process and a folder, bit for bit."""

import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantbench.compilation.request import CompileRequest
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions
from quantbench.ptq import processes, spread
from quantbench.ptq.piece_job import require_versions
from quantbench.ptq.pieces import pieces_of
from quantbench.ptq.pipeline import run_ptq
from quantbench.ptq.ranks import Group
from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest, Spread
from quantbench.ptq.share import count_share
from quantbench.ptq.stages import NUMBERS
from quantbench.records.run import PtqRun, load_run
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


# An adapter whose seventh picture ends a process with SIGKILL, as often as the test says.
_DEADLY = """
import os
import signal
from pathlib import Path

from quantbench.images.folder import ImageFolder


class Deadly(ImageFolder):
    def picture(self, index):
        mark = Path(os.environ["QUANTBENCH_TEST_MARK"])
        dead = len(mark.read_text()) if mark.exists() else 0
        other = os.environ["QUANTBENCH_TEST_PARENT"] != str(os.getpid())
        if index == 6 and other and dead < int(os.environ["QUANTBENCH_TEST_DEATHS"]):
            mark.write_text("x" * (dead + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().picture(index)


def pictures(path):
    return Deadly(path)
"""


def in_pieces(ground: Path, out: Path, pieces: int, **more: Any) -> PtqRun:
    given: dict[str, Any] = {"calib_dir": ground / "imgs", "batch_size": 2, "threads": 1, **more}
    return run(ground, out, spread=Spread(pieces=pieces), **given)


@pytest.fixture
def first_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells its first process."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("samples", "batch", "count"), [(11, 2, 3), (11, 2, 0), (1, 8, 5), (512, 8, 0), (7, 7, 2)])
def test_pieces_are_whole_batches_and_all_samples_once(samples: int, batch: int, count: int) -> None:
    pieces = pieces_of(samples, batch, count)
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(range(samples))
    assert all(piece.start % batch == 0 for piece in pieces)
    sizes = [-(-(piece.stop - piece.start) // batch) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
    assert len(pieces) == min(count or 32, -(-samples // batch))


@pytest.mark.usefixtures("first_of_two")
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_pieces_give_the_ranges_and_the_keys_of_one_pass(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """Six batches, the last one of one picture, all counted by the first process, the second being dead."""
    notes: list[str] = []
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
    made = in_pieces(ground, tmp_path / "run", pieces)
    assert any("The other processes counted nothing" in note for note in notes) == (pieces > 1)
    assert (tmp_path / "run" / "ranges.json").read_bytes() == (ground / "one" / "ranges.json").read_bytes()
    alone = load_run(ground / "one")
    assert {n: s.key for n, s in made.stages.items()} == {n: s.key for n, s in alone.stages.items()}
    assert not (tmp_path / "run" / ".quantbench" / "pieces").exists()


def test_processes_of_a_group_share_and_a_broken_piece_is_counted_again(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    given = PtqRequest(
        ModelChoice(str(ground / "m.onnx")), DataChoice(ground / "imgs"), calibrator="minmax", batch_size=2, threads=1,
        compile=CompileRequest("none"), latency=False, out=folder,
    )  # fmt: skip
    notes: list[str] = []
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
    killed_after = iter([False] * 5)  # two pieces, and the first batch of the third
    monkeypatch.setattr(spread, "is_counted", lambda *given: next(killed_after, True))
    count_share(given, Group(1, 2, 1, 2), Progress("none"), overwrite=False, refresh=False)
    monkeypatch.undo()
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
    left = sorted((folder / ".quantbench" / "pieces").iterdir())
    assert [name.stem.split("-")[1:] for name in left] == [["2", "4"], ["6", "8"]]
    left[0].write_bytes(b"broken")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run_ptq(given, Progress("none"))
    assert any("in 6 pieces, 2 of which an earlier run has counted" in note for note in notes)
    assert (folder / "ranges.json").read_bytes() == (ground / "one" / "ranges.json").read_bytes()
    # All is counted: one that comes late has nothing to do.
    count_share(given, Group(1, 2, 1, 2), Progress("none"), overwrite=False, refresh=False)
    assert notes[-1] == "Process 1 of 2 counted 0 of 6 pieces"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(QuantbenchError, match="no run folder"):
        count_share(
            replace(given, out=tmp_path / "mine"), Group(1, 2, 1, 2), Progress("none"), overwrite=True, refresh=False
        )
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("first_of_two")
def test_a_piece_of_bad_pictures_is_skipped_as_far_as_the_whole_allows(ground: Path, tmp_path: Path) -> None:
    imgs = tmp_path / "imgs"
    shutil.copytree(ground / "imgs", imgs)
    for name in ("02.png", "03.png"):  # the second of six pieces
        (imgs / name).write_bytes(b"no picture")
    request = {"batch_size": 2, "threads": 1, "compile": CompileRequest("none"), "latency": False}
    for out, how in (("pieces", Spread(pieces=6)), ("again", Spread(pieces=2))):
        data = DataChoice(imgs, max_bad=2)
        given = PtqRequest(ModelChoice(str(ground / "m.onnx")), data, calibrator="minmax", spread=how,
                           out=tmp_path / out, **request)  # type: ignore[arg-type]  # fmt: skip
        run_ptq(given, Progress("none"))
    assert (tmp_path / "pieces" / "ranges.json").read_bytes() == (tmp_path / "again" / "ranges.json").read_bytes()
    with pytest.raises(QuantbenchError, match=r"02\.png.*--max-bad"):
        in_pieces(ground, tmp_path / "none", 6, calib_dir=imgs)


def test_a_machine_with_another_version_is_refused() -> None:
    wanted = chosen_versions(*NUMBERS)
    require_versions(wanted)
    with pytest.raises(QuantbenchError, match=r"on .* onnxruntime is .*, where the run is it is 0\.1; install one"):
        require_versions({**wanted, "onnxruntime": "0.1"})


def deadly(ground: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, spread: Spread, deaths: int) -> PtqRequest:
    """A run of which so many workers are killed in the second piece of three."""
    (folder / "deadly.py").write_text(_DEADLY)
    monkeypatch.setenv("QUANTBENCH_TEST_MARK", str(folder / "mark"))
    monkeypatch.setenv("QUANTBENCH_TEST_PARENT", str(os.getpid()))
    monkeypatch.setenv("QUANTBENCH_TEST_DEATHS", str(deaths))
    data = DataChoice(dataset=f"{folder / 'deadly.py'}?path={ground / 'imgs'}")
    return PtqRequest(ModelChoice(str(ground / "m.onnx")), data, calibrator="minmax", batch_size=2, threads=1,
                      compile=CompileRequest("none"), latency=False, out=folder / "run", spread=spread)  # fmt: skip


def test_a_killed_process_costs_its_piece_and_what_is_done_is_kept(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second death over one piece ends the run here; the same command goes on."""
    monkeypatch.setattr(processes, "_TRIES", 2)
    notes: list[str] = []
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
    request = deadly(ground, tmp_path, monkeypatch, Spread(processes=1, pieces=3), deaths=2)
    with pytest.raises(QuantbenchError, match=r"2 processes died over samples 4 to 7 \(exit code -9"):
        run_ptq(request, Progress("none"))
    assert "A process died (exit code -9); samples 4 to 7 go to another" in notes
    run_ptq(request, Progress("none"))
    assert any("by 1 process in 3 pieces, 1 of which an earlier run has counted" in note for note in notes)
    assert (tmp_path / "run" / "ranges.json").read_bytes() == (ground / "one" / "ranges.json").read_bytes()


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra: pip install 'quantbench[ray]'")
@pytest.mark.skipif("QUANTBENCH_RAY" not in os.environ, reason="a minute of CPU: QUANTBENCH_RAY=1 asks for it")
def test_a_killed_worker_of_ray_costs_its_piece(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    try:
        run_ptq(deadly(ground, tmp_path, monkeypatch, Spread(ray="local", pieces=3), deaths=2), Progress("none"))
    finally:
        ray.shutdown()
    assert (tmp_path / "mark").read_text() == "xx"
    assert (tmp_path / "run" / "ranges.json").read_bytes() == (ground / "one" / "ranges.json").read_bytes()
