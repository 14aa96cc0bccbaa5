"""Break commands at their file operations, at random moments, on full and read-only disks and on damaged files.

    nice -n 10 python scripts/chaos.py --seconds 480 --lanes 16 --out docs/measured/reliability/chaos.json

Each job is a command on a model of three layers; the plan has a kill at every step of it, or at `--steps` of them.
After every fault: what stands under a final name is whole, the same command again ends with exit code 0, and its
results are those of an undisturbed run, bit for bit. `losses` counts where that does not hold, `uncaught` tracebacks
and faults of ours (exit code 70), `half_written` files that are neither whole nor absent. `--lanes` faults run at once,
each in a folder of its own.
"""

import argparse
import errno
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.chaos_jobs import JOBS, Job, prepare
from scripts.chaos_steps import Call, Ended, Server

_MODULES = ("onnxruntime", "onnx_graphsurgeon", "quantbench.ptq.pipeline", "quantbench.report.write",
            "quantbench.decide.tune", "quantbench.decide.sweep", "quantbench.cache.convert")  # fmt: skip
_TORCH = ("torch", "quantbench.qat.pipeline")
# Told by time, machine and luck: no result.
_TOLD = (".json", ".log", ".html", ".md", ".yaml", ".npz")
_RESULTS = ("ranges.json", "calibration.cache")
_SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
_MOMENTS = 8
_FULL = 12  # steps from which on the disk is full, or read-only, and at which a second call comes
_WAIT = 60.0  # seconds: what a killed sweep had started ends by itself


@dataclass(frozen=True)
class Fault:
    """What happens to a call of `job`: the fields of `Call` that disturb it, or damage to a file that it left."""

    job: Job
    kind: str
    at: int = 0
    signal: int = signal.SIGKILL
    error: int = 0
    after: float = 0.0
    damaged: str = ""


@dataclass(frozen=True)
class Whole:
    """An undisturbed call: its folder, its results by path, its steps and the seconds that it took."""

    out: Path
    expected: dict[str, bytes]
    steps: int
    seconds: float


@dataclass
class Found:
    """What came of a fault, as counts and lines."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def ended(self, fault: Fault, ended: Ended) -> None:
        """Count a call, and a traceback or fault of ours in it."""
        self.counts["calls"] += 1
        if "Traceback" in ended.output or ended.code in (70, 99):
            self.counts["uncaught"] += 1
            self.lines.append(f"{fault.job.name}, {fault.kind}, {ended.last}: {ended.output[-400:]}")


class Lane:
    """A folder of its own below `home`, and a server that forks calls."""

    def __init__(self, home: Path, modules: Sequence[str]) -> None:
        self.home = home
        self.folder = Path(tempfile.mkdtemp(prefix="lane-", dir=home))
        self.server = Server(*modules)
        self._number = 0
        for name in ("cache", "tmp"):
            (self.folder / name).mkdir()

    def new(self) -> Path:
        """An empty folder for one try."""
        self._number += 1
        out = self.folder / str(self._number)
        out.mkdir()
        return out

    def call(self, job: Job, out: Path, fault: Fault | None = None, more: tuple[str, ...] = ()) -> Ended:
        """The command on `out`, with `more` words, disturbed as `fault` says."""
        asked = fault or Fault(job, "")
        words = tuple(word.format(home=self.home, out=out) for word in job.command.split())
        environment = {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp")}
        return self.server.run(
            Call((*words, *more), (str(out),), asked.at, asked.signal, asked.error, asked.after, str(self.home),
                 environment=environment)
        )  # fmt: skip

    def whole(self, job: Job) -> Whole:
        """The command, undisturbed."""
        out = self.new()
        start = time.monotonic()
        ended = self.call(job, out)
        if ended.code not in (0, 3):
            raise SystemExit(f"{job.name}: {ended.output[-600:]}")
        return Whole(out, results(out), ended.steps, time.monotonic() - start)

    def tried(self, fault: Fault, whole: Whole) -> Found:
        """One fault, and the same command again after it."""
        found = Found(Counter({fault.kind: 1}))
        out = self.new()
        if fault.damaged:
            shutil.copytree(whole.out, out, dirs_exist_ok=True)
            _DAMAGE[fault.kind](out / fault.damaged)
            where = fault.damaged
        else:
            where = self._disturbed(fault, whole, out, found)
        resumed = self.call(fault.job, out)
        end = time.monotonic() + _WAIT
        while "is in use by" in resumed.output and time.monotonic() < end:
            time.sleep(0.5)
            resumed = self.call(fault.job, out)
        if fault.damaged and asks(resumed):
            found.counts["asked first"] += 1
            resumed = self.call(fault.job, out, more=("--refresh",))
        found.ended(fault, resumed)
        after = results(out)
        left = [p.name for p in out.rglob("*") if p.name.endswith(".part") or p.name in ("new", "commit.json")]
        if resumed.code not in (0, 3) or after != whole.expected or left:
            found.counts["losses"] += 1
            different = sorted(p for p in {*after, *whole.expected} if after.get(p) != whole.expected.get(p))
            said = f"code {resumed.code}, {different}, {left}, {resumed.output[-300:]}"
            found.lines.append(f"{fault.job.name}, {fault.kind}, {where}: {said}")
        shutil.rmtree(out)
        return found

    def _disturbed(self, fault: Fault, whole: Whole, out: Path, found: Found) -> str:
        """The call with its fault; the step that it came to."""
        ended = self.call(fault.job, out, fault)
        if ended.stopped:
            found.ended(fault, self.call(fault.job, out))
            ended = self.server.finish(ended)
        found.ended(fault, ended)
        for path, data in results(out).items():
            if data != whole.expected.get(path):
                found.counts["half_written"] += 1
                found.lines.append(f"{fault.job.name}, {fault.kind}, {ended.last}: {path} is not whole")
        return ended.last


def asks(ended: Ended) -> bool:
    """Whether ptq, which takes a cache that was changed for the user's own, asks in one line what to do with it."""
    return ended.code == 2 and "was changed since it was written; --reuse-cache" in ended.output


def plan(job: Job, whole: Whole, steps: int, rng: random.Random) -> Iterator[Fault]:
    """Every fault of `job`: kills at its steps (at most `steps` of them, 0 for all), and the rest."""
    many = min(steps or whole.steps, whole.steps)
    chosen = sorted({1 + round(i * (whole.steps - 1) / max(many - 1, 1)) for i in range(many)})
    some = chosen[:: max(len(chosen) // _FULL, 1)]
    yield from (Fault(job, "killed at a step", at=step) for step in chosen)
    yield from (Fault(job, "disk full", at=step, error=errno.ENOSPC) for step in some)
    yield from (Fault(job, "read-only", at=step, error=errno.EROFS) for step in some)
    yield from (Fault(job, "two at once", at=step, signal=signal.SIGSTOP) for step in some[1:])
    for name, number in _SIGNALS.items():
        for _ in range(_MOMENTS):
            yield Fault(job, f"{name} at a random moment", after=rng.uniform(0.01, whole.seconds), signal=number)
    yield from (Fault(job, kind, damaged=path) for path in sorted(whole.expected) for kind in _DAMAGE)


def results(out: Path) -> dict[str, bytes]:
    """What a command made, by path, without what tells of time and machine."""
    files = (path for path in out.rglob("*") if path.is_file() and ".quantbench" not in path.parts)
    kept = (p for p in files if (p.suffix not in _TOLD or p.name in _RESULTS) and not p.name.startswith("."))
    return {str(path.relative_to(out)): path.read_bytes() for path in kept if "-search" not in str(path)}


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _removed(path: Path) -> None:
    path.unlink()


_DAMAGE: dict[str, Callable[[Path], None]] = {
    "damaged: cut": _cut, "damaged: emptied": _emptied, "damaged: flipped": _flipped, "damaged: removed": _removed,
}  # fmt: skip

_lane: Lane  # of this process of the pool


def _open(home: Path, modules: Sequence[str]) -> None:
    global _lane
    _lane = Lane(home, modules)


def _whole(job: Job) -> Whole:
    return _lane.whole(job)


def _try(fault: Fault, whole: Whole, until: float) -> Found:
    return _lane.tried(fault, whole) if time.monotonic() < until else Found(Counter({"not tried": 1}))


def main() -> None:
    """The plan of all jobs in random order, as far as the time goes; the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0, help="kill at so many steps of each job, 0 for all")
    parser.add_argument("--lanes", type=int, default=1, help="faults at once")
    parser.add_argument("--jobs", nargs="*", choices=[job.name for job in JOBS], default=[job.name for job in JOBS])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    jobs = [job for job in JOBS if job.name in given.jobs]
    rng = random.Random(given.seed)
    found = {job.name: Found() for job in jobs}
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        prepare(home)
        modules = _MODULES + (_TORCH if any(job.name == "qat-export" for job in jobs) else ())
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(given.lanes, context, _open, (home, modules)) as pool:
            wholes = dict(zip(jobs, pool.map(_whole, jobs), strict=True))
            faults: list[Fault] = []
            for job, whole in wholes.items():
                found[job.name].counts["steps"] = whole.steps
                faults += plan(job, whole, given.steps, rng)
            rng.shuffle(faults)
            until = start + given.seconds
            asked = {pool.submit(_try, fault, wholes[fault.job], until): fault for fault in faults}
            for done in as_completed(asked):
                of_job = found[asked[done].job.name]
                one = done.result()
                of_job.counts.update(one.counts)
                of_job.lines += one.lines
    _tell(found, given, round(time.monotonic() - start))


def _tell(found: dict[str, Found], given: argparse.Namespace, seconds: int) -> None:
    total: Counter[str] = Counter()
    for name, of_job in found.items():
        print(name, dict(of_job.counts))
        total.update(of_job.counts)
    kinds = ("steps", "calls", "losses", "uncaught", "half_written", "not tried", "asked first")
    lines = [line for of_job in found.values() for line in of_job.lines]
    data = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": seconds, "seed": given.seed,
        "lanes": given.lanes, "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "faults injected": sum(count for kind, count in total.items() if kind not in kinds),
        **{kind: total[kind] for kind in kinds},
        "jobs": {name: dict(of_job.counts) for name, of_job in found.items()}, "findings": lines[:60],
    }  # fmt: skip
    for line in lines[:10]:
        print(line)
    print(f"{data['faults injected']} faults in {total['calls']} calls and {seconds} s, {given.lanes} at once: "
          f"{total['losses']} losses, {total['uncaught']} uncaught, {total['half_written']} half-written, "
          f"{total['not tried']} not tried")  # fmt: skip
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
