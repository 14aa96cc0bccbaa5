"""A run that is killed (SIGKILL, in a process of its own) at a file operation, and two runs at once on one folder."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.chaos_steps import Call, Ended, Server
from tests.ptq.small_run import holds, outputs, run, write_data, write_model


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("tests.ptq.small_run", "onnxruntime", "onnx_graphsurgeon") as started:
        yield started


def call(home: Path, out: Path, *words: str, at: int = 0, sign: int = signal.SIGKILL) -> Call:
    environment = {"XDG_CACHE_HOME": str(home / "cache")}
    return Call((str(home), str(out), *words), (str(out),), at, sign, environment=environment,
                function="tests.ptq.small_run:main")  # fmt: skip


def spread(whole: Ended, count: int) -> list[int]:
    """So many steps of a whole call, the first and last ones among them."""
    assert whole.code == 0, whole.output
    assert whole.steps > 80
    return sorted({1 + round(index * (whole.steps - 1) / (count - 1)) for index in range(count)})


# Fault 5, and a kill between any two writes.


@pytest.mark.parametrize("words", [(), ("refresh",), ("auto",)])
def test_a_kill_at_any_file_operation_costs_nothing(home: Path, server: Server, words: tuple[str, ...]) -> None:
    """In a new folder, in one that holds a run with other data, which the killed call was to replace, and where models
    that were judged are kept for the next stage."""
    other = home / "other"
    other.mkdir()
    shutil.copy(home / "m.onnx", other / "m.onnx")
    run(write_data(other / "data", seed=50).parent, home / "begun")
    again = "refresh" in words

    def begin(name: str) -> Path:
        return shutil.copytree(home / "begun", home / name) if again else home / name

    whole = server.run(call(home, begin("whole"), *words))
    expected = outputs(home / "whole")
    for step in spread(whole, 4 if words else 5):
        out = begin(f"run{step}")
        killed = server.run(call(home, out, *words, at=step))
        assert killed.code == -signal.SIGKILL, killed.output
        resumed = server.run(call(home, out, *words))
        assert resumed.code == 0, f"{killed.last}: {resumed.output}"
        holds(out)
        assert outputs(out) == expected, killed.last


# Fault 6: two at once.


def test_a_second_run_waits_for_nobody_and_spoils_nothing(home: Path, server: Server) -> None:
    """The first is held at a file operation; before it has the folder the second one may do the whole run."""
    whole = server.run(call(home, home / "whole"))
    expected = outputs(home / "whole")
    for step in (1, 2, 3, 5, 12, *spread(whole, 3)[1:]):
        out = home / f"run{step}"
        first = server.run(call(home, out, at=step, sign=signal.SIGSTOP))
        assert first.stopped, first.output
        second = server.run(call(home, out))
        assert second.code in (0, 2), second.output
        if second.code == 2:
            assert f"{out} is in use by process {first.process} on " in second.output, first.last
        assert step < 12 or second.code == 2, first.last
        finished = server.finish(first)
        assert finished.code == 0, f"{first.last}: {finished.output}"
        holds(out)
        assert outputs(out) == expected


def test_a_folder_that_another_model_took_meanwhile_is_refused(home: Path, server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_model(other / "m.onnx", seed=9)
    write_data(other / "data")
    first = server.run(call(home, home / "both", at=1, sign=signal.SIGSTOP))
    assert server.run(call(other, home / "both")).code == 0
    finished = server.finish(first)
    assert finished.code == 2
    assert "holds another run" in finished.output
    holds(home / "both")


def test_the_command_says_who_holds_the_folder(home: Path, server: Server) -> None:
    out = home / "run"
    first = server.run(call(home, out, "refresh", at=12, sign=signal.SIGSTOP))
    line = Call(("ptq", str(home / "m.onnx"), "--calib-dir", str(home / "data"), "--out", str(out), "--no-compile"),
                environment={"XDG_CACHE_HOME": str(home / "cache")})  # fmt: skip
    second = server.run(line)
    assert second.code == 2
    told = [text for text in second.output.splitlines() if text.startswith("quantbench: error:")]
    assert len(told) == 1
    assert f"is in use by process {first.process} on " in told[0]
    assert server.finish(first).code == 0
    holds(out)
