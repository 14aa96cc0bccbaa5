"""Fuzz every reader of quantbench with mutations of small good files, and count what is not a clear refusal.

    python scripts/fuzz.py --seconds 480 --jobs 16 --out docs/measured/reliability/fuzz.json

A worker is forked for some hundreds to thousands of executions, with 2 GB of memory to grow into and 10 s for each;
`--jobs` workers run at once, each on a core of its own. What a worker does next stands in shared memory, so that one
that dies (a fault of a C library) or never comes back from C is a finding with its input. An execution ends well with
a result or with QuantbenchError; everything else is kept in --keep by its kind (exception and place). A target whose
libraries are absent is named in the figures.
"""

import argparse
import contextlib
import importlib.metadata
import json
import mmap
import os
import platform
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

# Before numpy comes: workers are forked, and threads are not.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quantbench.errors import QuantbenchError
from scripts.fuzz_targets import TARGETS, Target, Work

_AT_ONCE = 3000
_SECONDS_EACH = 10
# Python's alarm comes only between two of its own steps; a worker that stands still for so long is ended from outside.
_SECONDS_STILL = 60
_BYTES = 2 << 30
_MOST = 1 << 18
_TOLD = ("numpy", "onnx", "onnxruntime", "pillow", "pydantic", "torch")


class Hangs(BaseException):
    """Over the seconds that one execution has."""


@dataclass
class Counts:
    """What came of the executions of one target; `kinds`: of each kind of finding the first input's beginning, hex."""

    executions: int = 0
    refused: int = 0
    uncaught: int = 0
    hangs: int = 0
    deaths: int = 0
    memory: int = 0
    kinds: dict[str, str] = field(default_factory=dict)


class _Board:
    """Memory that parent and worker share: executions done and refused, and the input that runs."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _MOST + 64)

    def write(self, done: int, refused: int, data: bytes) -> None:
        self._memory[:24] = struct.pack("qqq", done, refused, len(data))
        self._memory[24 : 24 + len(data)] = data

    def read(self) -> tuple[int, int, bytes]:
        done, refused, length = struct.unpack("qqq", self._memory[:24])
        return done, refused, self._memory[24 : 24 + length]

    def done(self) -> int:
        return int(struct.unpack("q", self._memory[:8])[0])


def place_of(error: BaseException) -> str:
    """Exception and the innermost line of quantbench's that it came through: what one finding is."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}quantbench{os.sep}" in f.filename]
    where = f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"


def _work(target: Target, work: Work, corpus: list[bytes], seed: int, board: _Board, told: int, folder: Path) -> None:
    """What the forked process does; it never returns."""
    rng = random.Random(seed)
    limit = _used() + _BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hangs)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    path = folder / f"input{target.ending}"
    refused = 0
    many = target.at_once or _AT_ONCE
    for done in range(many):
        data = target.mutate(rng.choice(corpus), corpus, rng)[:_MOST]
        board.write(done, refused, data)
        path.write_bytes(data)
        found = ""
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_EACH)
        try:
            work(path)
        except QuantbenchError:
            refused += 1
        except Hangs:
            found = "hang"
        except MemoryError as error:
            found = f"memory: {place_of(error)}"
        except BaseException as error:
            found = place_of(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if found:
            os.write(told, json.dumps([found, data.hex()]).encode() + b"\n")
    board.write(many, refused, b"")
    os._exit(0)


def _hangs(number: int, frame: object) -> None:
    raise Hangs


def _used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Worker:
    """A forked process at work on `target`, and what it is told by."""

    def __init__(self, target: Target, work: Work, corpus: list[bytes], seed: int, core: int | None) -> None:
        self.target, self.begun, self._board = target, time.monotonic(), _Board()
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._moved = (0, self.begun)
        self._still = False
        self.process = os.fork()
        if not self.process:
            with contextlib.suppress(BaseException):
                os.setsid()
                if core is not None:
                    os.sched_setaffinity(0, {core})
                _work(target, work, corpus, seed, self._board, self._told.fileno(), self._folder)
            os._exit(77)

    def ended(self, counts: Counts, keep: Path | None) -> bool:
        """Whether it is over; then its findings are in `counts`, their inputs under `keep`."""
        now, done = time.monotonic(), self._board.done()
        if done != self._moved[0]:
            self._moved = (done, now)
        elif now - self._moved[1] > _SECONDS_STILL and not self._still:
            self._still = True
            os.killpg(self.process, signal.SIGKILL)
        process, status = os.waitpid(self.process, os.WNOHANG)
        if process:
            self._count(os.waitstatus_to_exitcode(status), counts, keep)
        return bool(process)

    def _count(self, code: int, counts: Counts, keep: Path | None) -> None:
        done, refused, data = self._board.read()
        counts.executions += done
        counts.refused += refused
        self._told.seek(0)
        findings = [json.loads(line) for line in self._told]
        self._told.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if code != 0:
            counts.executions += 1
            findings.append(("hang" if self._still else f"death {code}", data.hex()))
        for kind, text in findings:
            name = {"hang": "hangs", "death": "deaths", "memory": "memory"}.get(kind.split(" ")[0].rstrip(":"))
            setattr(counts, name or "uncaught", getattr(counts, name or "uncaught") + 1)
            if kind not in counts.kinds:
                counts.kinds[kind] = text[:200]
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    label = "".join(c if c.isalnum() else "-" for c in f"{self.target.name}-{kind}")
                    (keep / f"{label}{self.target.ending}").write_bytes(bytes.fromhex(text))


class Fuzzing:
    """The targets that can run here, their counts, and the workers on them."""

    def __init__(self, names: list[str], keep: Path | None) -> None:
        self._keep = keep
        self.counts: dict[str, Counts] = {}
        self.absent: dict[str, str] = {}
        self._ready: dict[str, tuple[Work, list[bytes]]] = {}
        self._spent: dict[str, float] = {}
        for name in names:
            try:
                self._ready[name] = (TARGETS[name].work(), TARGETS[name].corpus())
            except ImportError as error:
                self.absent[name] = str(error)
                continue
            self.counts[name] = Counts()
            self._spent[name] = 0.0

    def run(self, seed: int, jobs: int, until: float, executions: int) -> None:
        """Workers, `jobs` at once, until the time is over or so many executions were made."""
        cores = sorted(os.sched_getaffinity(0))
        lanes: list[Worker | None] = [None] * jobs
        running: dict[str, int] = dict.fromkeys(self._ready, 0)
        while True:
            over = time.monotonic() > until or self.total("executions") >= executions
            for lane, worker in enumerate(lanes):
                if worker is not None and worker.ended(self.counts[worker.target.name], self._keep):
                    self._spent[worker.target.name] += time.monotonic() - worker.begun
                    running[worker.target.name] -= 1
                    lanes[lane] = worker = None
                if worker is None and not over:
                    # The target that had least of its share of the time, with what runs counted as a second each.
                    name = min(self._ready, key=lambda n: (self._spent[n] + running[n]) / TARGETS[n].share)
                    core = cores[lane % len(cores)] if jobs > 1 else None
                    lanes[lane] = Worker(TARGETS[name], *self._ready[name], seed, core)
                    running[name] += 1
                    seed += 1
            if not any(lanes):
                return
            time.sleep(0.005)

    def total(self, key: str) -> int:
        """A count over all targets."""
        return sum(getattr(found, key) for found in self.counts.values())


def main() -> None:
    """Workers over the targets until the time is over; a line a target, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--executions", type=int, default=1 << 60, help="stop before the time is over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="workers at once")
    parser.add_argument("--targets", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS))
    parser.add_argument("--keep", type=Path, help="folder for inputs that are findings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.monotonic()
    fuzzing = Fuzzing(given.targets, given.keep)
    fuzzing.run(given.seed, given.jobs, start + given.seconds, given.executions)
    seconds = round(time.monotonic() - start)
    sums = {key: fuzzing.total(key) for key in ("executions", "refused", "uncaught", "hangs", "deaths", "memory")}
    for name, found in fuzzing.counts.items():
        print(name, found.executions, "executions", found.refused, "refused", dict(list(found.kinds.items())[:20]))
    for name, why in fuzzing.absent.items():
        print(f"{name}: not run, {why}")
    print(f"{sums['executions']} executions in {seconds} s, {given.jobs} at once: {sums['uncaught']} uncaught, "
          f"{sums['hangs']} hangs, {sums['deaths']} deaths, {sums['memory']} over 2 GB")  # fmt: skip
    if given.out is not None:
        data = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": seconds, "seed": given.seed,
            "jobs": given.jobs, "python": platform.python_version(), "versions": _versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", **sums, "not run": fuzzing.absent,
            "targets": {name: {**vars(found)} for name, found in fuzzing.counts.items()},
        }  # fmt: skip
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    """What the readers stand on, by package."""
    found = {}
    for name in _TOLD:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    main()
