"""Fuzz every reader of quantbench with mutations of small good files, and count what is not a clear refusal.

    python scripts/fuzz.py --seconds 600 --out docs/measured/reliability/fuzz.json

A worker is forked for a few thousand executions, with 2 GB of memory to grow into and 10 s for each. What it does next
stands in shared memory, so that a worker that dies (a fault of a C library) is a finding with its input. An execution
ends well with a result or with QuantbenchError; everything else is kept in --keep by its kind (exception and place).
"""

import argparse
import contextlib
import json
import mmap
import os
import platform
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quantbench.errors import QuantbenchError
from scripts.fuzz_targets import TARGETS, Target

_AT_ONCE = 3000
_SECONDS_EACH = 10
_BYTES = 2 << 30
_INTERESTING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"-1", b"0", b"1e999", b"nan", b"inf", b"null", b"{", b"}", b"[", b"]", b'"',
    b"\\ud800", b":", b",", b"\n", b"\r\n", b"\x1b[2J", b"../", b"%s", b"9" * 40, b"1" * 5000,
)  # fmt: skip


class Hangs(BaseException):
    """Over the seconds that one execution has."""


@dataclass
class Counts:
    """What came of the executions of one target."""

    executions: int = 0
    refused: int = 0
    uncaught: int = 0
    hangs: int = 0
    deaths: int = 0
    memory: int = 0
    kinds: dict[str, str] = field(default_factory=dict)


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` with one to eight changes: bits, bytes, pieces cut, doubled, moved or taken from other files."""
    found = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(found) + 1)
        length = min(1 << rng.randrange(8), len(found) - at)
        kind = rng.randrange(8)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = rng.randrange(256)
        elif kind == 2:
            del found[at : at + length]
        elif kind == 3:
            found[at:at] = found[at : at + length] * rng.choice((1, 1, 2, 50))
        elif kind == 4:
            found[at:at] = rng.choice(_INTERESTING)
        elif kind == 5:
            found[at : at + length] = rng.choice(_INTERESTING)
        elif kind == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            found[at : at + length] = other[start : start + (1 << rng.randrange(8))]
        else:
            del found[at:]
            found += rng.choice(others)[at:] if rng.random() < 0.5 else b""
    return bytes(found[: 1 << 18])


class _Board:
    """Memory that parent and worker share: executions done and refused, and the input that runs."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (1 << 18) + 64)

    def write(self, done: int, refused: int, data: bytes) -> None:
        self._memory[:24] = struct.pack("qqq", done, refused, len(data))
        self._memory[24 : 24 + len(data)] = data

    def read(self) -> tuple[int, int, bytes]:
        done, refused, length = struct.unpack("qqq", self._memory[:24])
        return done, refused, self._memory[24 : 24 + length]


def place_of(error: BaseException) -> str:
    """Exception and the innermost line of quantbench's that it came through: what one finding is."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}quantbench{os.sep}" in f.filename]
    where = f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"


def _worker(target: Target, work: Callable[[Path], object], seed: int, board: _Board, pipe: int, folder: Path) -> None:
    rng = random.Random(seed)
    corpus = target.corpus()
    limit = _used() + _BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hangs)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    path = folder / f"input{target.ending}"
    refused = 0
    for done in range(target.at_once or _AT_ONCE):
        data = mutated(rng.choice(corpus), corpus, rng)
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
            os.write(pipe, json.dumps([found, data.hex()]).encode() + b"\n")
    board.write(target.at_once or _AT_ONCE, refused, b"")
    os._exit(0)


def _hangs(number: int, frame: object) -> None:
    raise Hangs


def _used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(target: Target, seed: int, counts: Counts, keep: Path | None) -> None:
    """One worker of `target`; its findings go into `counts`, their inputs under `keep`."""
    board = _Board()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_fast()) as folder, tempfile.TemporaryFile() as told:
        work = target.work()
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                _worker(target, work, seed, board, told.fileno(), Path(folder))
            os._exit(77)
        _, status = os.waitpid(process, 0)
        done, refused, data = board.read()
        counts.executions += done
        counts.refused += refused
        told.seek(0)
        findings = [json.loads(line) for line in told]
    if os.waitstatus_to_exitcode(status) != 0:
        counts.executions += 1
        findings.append((f"death {os.waitstatus_to_exitcode(status)}", data.hex()))
    for kind, text in findings:
        if kind == "hang":
            counts.hangs += 1
        elif kind.startswith("death"):
            counts.deaths += 1
        elif kind.startswith("memory"):
            counts.memory += 1
        else:
            counts.uncaught += 1
        if kind not in counts.kinds:
            counts.kinds[kind] = text[:200]
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                name = "".join(c if c.isalnum() else "-" for c in f"{target.name}-{kind}")
                (keep / f"{name}{target.ending}").write_bytes(bytes.fromhex(text))


def _fast() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def main() -> None:
    """Rounds over the targets until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS))
    parser.add_argument("--keep", type=Path, help="folder for inputs that are findings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    counts = {name: Counts() for name in given.targets}
    spent = dict.fromkeys(given.targets, 0.0)
    start, seed = time.monotonic(), given.seed
    while time.monotonic() - start < given.seconds:
        # The target that had least of its share of the time.
        name = min(given.targets, key=lambda name: spent[name] / TARGETS[name].share)
        begun = time.monotonic()
        run(TARGETS[name], seed, counts[name], given.keep)
        spent[name] += time.monotonic() - begun
        seed += 1
        if given.out is not None:
            write(given.out, counts, time.monotonic() - start, given.seed)
    total = Counts()
    for name, found in counts.items():
        print(name, found.executions, "executions", found.refused, "refused", dict(list(found.kinds.items())[:20]))
        total.executions += found.executions
    print(total.executions, "executions in", round(time.monotonic() - start), "s")


def write(path: Path, counts: dict[str, Counts], seconds: float, seed: int) -> None:
    """The figures as JSON, with where and how they came about."""
    sums = {key: sum(getattr(found, key) for found in counts.values())
            for key in ("executions", "refused", "uncaught", "hangs", "deaths", "memory")}  # fmt: skip
    data = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds), "seed": seed,
        "python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores", **sums,
        "targets": {name: {**vars(found)} for name, found in counts.items()},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
