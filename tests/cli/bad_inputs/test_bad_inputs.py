"""Every command with every bad file: one line that names it, exit code 2, soon, and nothing left behind."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.cli.bad_inputs.ground import Ground, Outcome
from tests.cli.bad_inputs.table import LINES_OF_COMMANDS, Case, cases, pairs

SECONDS = 5.0
BYTES = 1 << 30
TABLE = {command: tuple(rows) for command, rows in groupby(cases(), lambda case: case.command)}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module", autouse=True)
def bounded() -> Iterator[None]:
    """The whole table takes less than a gigabyte more than what ran before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES


def faults(outcome: Outcome, code: int, part: str) -> list[str]:
    """What is wrong with how a command ended."""
    found = []
    if outcome.code != code:
        found.append(f"exit code {outcome.code}, not {code}: {outcome.err[-300:]}")
    if "Traceback" in outcome.err + outcome.out:
        found.append("a traceback")
    if any(ord(character) < 32 and character not in "\n\t" for character in outcome.err + outcome.out):
        found.append("a raw control character")
    if code == 2:
        if len(outcome.errors) != 1 or not outcome.err.endswith(outcome.errors[0] + "\n"):
            found.append(f"not one error line at the end: {outcome.err[-300:]!r}")
        elif part not in outcome.errors[0]:
            found.append(f"{outcome.errors[0]!r} lacks {part!r}")
        elif len(outcome.errors[0]) > 1200:
            found.append(f"a line of {len(outcome.errors[0])} characters")
        # Python's own bytecode of a user's file is no leaving of ours.
        left = [name for name in outcome.left if "__pycache__" not in str(name)]
        if left:
            found.append(f"left behind: {left}")
    if outcome.seconds > SECONDS:
        found.append(f"{outcome.seconds:.1f} s")
    return found


def test_the_table_is_of_all_places_and_kinds() -> None:
    assert {(case.command, case.file) for case in cases()} == set(pairs())
    assert len(cases()) + len(LINES_OF_COMMANDS) > 2000
    assert {word for case in cases() for word in case.command.split()[:1]} >= {
        "lint", "predict", "explain-node", "build", "bench", "eval", "sensitivity", "tune", "ptq", "inspect", "cache",
        "refit", "tactics", "device", "sweep", "report", "record",
    }  # fmt: skip


@pytest.mark.parametrize("command", TABLE)
def test_a_bad_file(ground: Ground, command: str) -> None:
    found = {case.file: faults(_run(ground, case), case.code, case.line) for case in TABLE[command]}
    assert {file: wrong for file, wrong in found.items() if wrong} == {}


def _run(ground: Ground, case: Case) -> Outcome:
    return ground.run(ground.arguments(case.command, case.file))


@pytest.mark.parametrize(("command", "part"), LINES_OF_COMMANDS)
def test_a_bad_command_line(ground: Ground, command: str, part: str) -> None:
    assert faults(ground.run(ground.arguments(command)), 2, part) == []


@pytest.mark.parametrize(
    ("command", "file"),
    [("lint {x}.onnx", "device"), ("cache show {x}", "deep"), ("report {x} --out {out}/r", "pipe"),
     ("tune {good} --data {data} --min-sqnr 1 --sensitivity {x}.json --out {out}/t", "device")],
)  # fmt: skip
def test_the_same_in_a_process_of_its_own(ground: Ground, command: str, file: str, tmp_path: Path) -> None:
    (case,) = (case for case in TABLE[command] if case.file == file)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "quantbench", *ground.arguments(command, file)], cwd=tmp_path / "here", text=True,
        capture_output=True, timeout=60, env=environment, preexec_fn=_bounded,
    )  # fmt: skip
    said = done.stderr.replace(str(ground.root), "")
    assert faults(Outcome(done.returncode, done.stdout, said, 0.0, ()), case.code, case.line) == []
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 * BYTES, 8 * BYTES))  # libraries map far more than they use
    resource.setrlimit(resource.RLIMIT_DATA, (4 * BYTES, 4 * BYTES))
