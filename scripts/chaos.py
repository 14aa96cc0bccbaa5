"""Break commands at their file operations, at random moments, on full and read-only disks and on damaged files.

    nice -n 10 python scripts/chaos.py --seconds 400 --out docs/measured/reliability/chaos.json

Each job is a command on a model of three layers. After every fault: what stands under a final name is whole, the same
command again ends with exit code 0, and its results are those of an undisturbed run, bit for bit. `losses` counts where
that does not hold, `uncaught` tracebacks and faults of ours (exit code 70), `half_written` files that are neither whole
nor absent.
"""

import argparse
import errno
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.chaos_steps import Call, Ended, Server

_MODULES = ("onnxruntime", "onnx_graphsurgeon", "quantbench.ptq.pipeline", "quantbench.report.write",
            "quantbench.decide.tune", "quantbench.decide.sweep", "quantbench.cache.convert")  # fmt: skip
# Told by time, machine and luck: no result.
_TOLD = (".json", ".log", ".html", ".md", ".yaml", ".npz")
_RESULTS = ("ranges.json", "calibration.cache")


@dataclass(frozen=True)
class Job:
    """A command; {out} is what it makes. `spread`: at most so many of its steps are tried."""

    name: str
    command: str
    spread: int


JOBS = (
    Job(
        "ptq",
        "ptq {home}/m.onnx --calib-data {home}/data --out {out}/r --no-compile --threads 1 --calibrator minmax",
        50,
    ),
    Job("cache convert", "cache convert {home}/c.cache --to tensorrt --out {out}/c.cache", 40),
    Job("cache to-qdq", "cache to-qdq {home}/c.cache {home}/m.onnx --out {out}/q.onnx", 40),
    Job("build", "build {home}/q.onnx --backend onnxruntime --out {out}/e.onnx", 40),
    Job("tune", "tune {home}/m.onnx --data {home}/data --min-sqnr 1 --out {out}/t --threads 1", 40),
    Job("sweep", "sweep {home}/r.yaml --grid calibrator=minmax --out {out}/s", 16),
    Job("qat-export", "qat-export --recipe {home}/qat.yaml --trust --out {out}/q --no-compile --device cpu", 16),
)  # fmt: skip


@dataclass(frozen=True)
class How:
    """The fields of `Call` that disturb it."""

    at: int = 0
    signal: int = signal.SIGKILL
    error: int = 0
    after: float = 0.0


class Chaos:
    """The jobs, what their undisturbed runs gave, and the counts."""

    def __init__(self, home: Path, server: Server, until: float, rng: random.Random) -> None:
        self.home, self.server, self.until, self.rng = home, server, until, rng
        self.counts: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self._number = 0

    def call(self, job: Job, out: Path, how: "How | None" = None) -> Ended:
        """The command on `out`, disturbed as `how` says."""
        asked = how or How()
        words = tuple(word.format(home=self.home, out=out) for word in job.command.split())
        environment = {"XDG_CACHE_HOME": str(self.home / "cache"), "TMPDIR": str(self.home / "tmp")}
        return self.server.run(
            Call(words, (str(out),), asked.at, asked.signal, asked.error, asked.after, str(self.home),
                 environment=environment)
        )  # fmt: skip

    def new(self) -> Path:
        """An empty folder for one try."""
        self._number += 1
        out = self.home / "tries" / str(self._number)
        out.mkdir(parents=True)
        return out

    def tries(self, job: Job, seconds: float) -> None:
        """All kinds of faults on one job, as long as there is time."""
        end = min(self.until, time.monotonic() + seconds)
        whole_out = self.new()
        start = time.monotonic()
        whole = self.call(job, whole_out)
        took = time.monotonic() - start
        if whole.code not in (0, 3):
            raise SystemExit(f"{job.name}: {whole.output[-600:]}")
        expected = results(whole_out)
        found = self.counts.setdefault(job.name, Counter(steps=whole.steps))
        for kind, how in self._plans(job, whole.steps, took):
            if time.monotonic() > end:
                found["not tried"] += 1
                continue
            self._one(job, kind, how, expected)
        for path in sorted(expected):
            for damage in (_cut, _emptied, _flipped, _removed):
                if time.monotonic() > end:
                    found["not tried"] += 1
                    continue
                self._damaged(job, whole_out, path, damage, expected)
        shutil.rmtree(self.home / "tries")

    def _plans(self, job: Job, steps: int, took: float) -> Iterator[tuple[str, "How"]]:
        chosen = sorted({1 + round(i * (steps - 1) / max(job.spread - 1, 1)) for i in range(job.spread)})
        plans: list[tuple[str, How]] = []
        plans += [("killed at a step", How(at=step)) for step in chosen]
        some = chosen[:: max(len(chosen) // 12, 1)]
        plans += [("disk full", How(at=step, error=errno.ENOSPC)) for step in some]
        plans += [("read-only", How(at=step, error=errno.EROFS)) for step in some]
        for name, number in (("SIGKILL", signal.SIGKILL), ("SIGTERM", signal.SIGTERM), ("SIGINT", signal.SIGINT)):
            plans += [(f"{name} at a random moment", How(after=self.rng.uniform(0.01, took), signal=number))
                      for _ in range(6)]  # fmt: skip
        plans += [("two at once", How(at=step, signal=signal.SIGSTOP)) for step in some[1:]]
        self.rng.shuffle(plans)
        yield from plans

    def _one(self, job: Job, kind: str, how: "How", expected: dict[str, bytes]) -> None:
        out = self.new()
        ended = self.call(job, out, how)
        if ended.stopped:
            second = self.call(job, out)
            ended = self.server.finish(ended)
            self._note(job, kind, second)
        self._note(job, kind, ended)
        found = self.counts[job.name]
        found[kind] += 1
        for path, data in results(out).items():
            if data != expected.get(path):
                found["half_written"] += 1
                self.faults.append(f"{job.name}, {kind}, {ended.last}: {path} is not whole")
        self._again(job, kind, out, expected, ended.last)
        shutil.rmtree(out)

    def _damaged(
        self, job: Job, whole: Path, path: str, damage: Callable[[Path], None], expected: dict[str, bytes]
    ) -> None:
        out = self.new() / "x"
        shutil.copytree(whole, out)
        damage(out / path)
        self.counts[job.name][f"damaged: {damage.__name__[1:]}"] += 1
        self._again(job, f"damaged: {damage.__name__[1:]}", out, expected, path)
        shutil.rmtree(out.parent)

    def _again(self, job: Job, kind: str, out: Path, expected: dict[str, bytes], where: str) -> None:
        resumed = self.call(job, out)
        for _ in range(20):
            # What a killed sweep had started ends by itself.
            if "is in use by" not in resumed.output:
                break
            time.sleep(0.5)
            resumed = self.call(job, out)
        self._note(job, kind, resumed)
        found = results(out)
        left = [p.name for p in out.rglob("*") if p.name.endswith(".part") or p.name in ("new", "commit.json")]
        if resumed.code not in (0, 3) or found != expected or left:
            self.counts[job.name]["losses"] += 1
            different = sorted(p for p in {*found, *expected} if found.get(p) != expected.get(p))
            said = f"code {resumed.code}, {different}, {left}, {resumed.output[-300:]}"
            self.faults.append(f"{job.name}, {kind}, {where}: {said}")

    def _note(self, job: Job, kind: str, ended: Ended) -> None:
        self.counts[job.name]["calls"] += 1
        if "Traceback" in ended.output or ended.code in (70, 99):
            self.counts[job.name]["uncaught"] += 1
            self.faults.append(f"{job.name}, {kind}, {ended.last}: {ended.output[-400:]}")


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


def prepare(home: Path) -> None:
    """Model, data, cache, recipes and a checkpoint for the jobs."""
    import numpy as np
    import torch
    from PIL import Image

    from quantbench.load_object import load_object
    from tests.ptq.small_run import run, write_data, write_model

    write_model(home / "m.onnx")
    write_data(home / "data")
    run(home, home / "made")
    shutil.copy(home / "made" / "calibration.cache", home / "c.cache")
    shutil.copy(home / "made" / "model.qdq.onnx", home / "q.onnx")
    (home / "tmp").mkdir()
    data = f"data: {{calib_dir: {home}/data}}\nevaluation: {{latency: false}}\ncompile: {{backend: none}}\nthreads: 1\n"
    (home / "r.yaml").write_text(f"model: {home}/m.onnx\n{data}")
    (home / "imgs").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(home / "imgs" / f"{number}.png")
    (home / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), "
        "nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))\n"
    )
    torch.manual_seed(0)
    torch.save(load_object(f"{home / 'net.py'}:make")().state_dict(), home / "w.pt")
    (home / "qat.yaml").write_text(
        f"model: {home}/w.pt\narchitecture: {{factory: '{home}/net.py:make', input_shape: [3, 32, 32]}}\n"
        f"data: {{calib_dir: {home}/imgs}}\nexport: {{exporter: legacy}}\n"
    )


def main() -> None:
    """All jobs, each with its share of the time; the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="*", default=[job.name for job in JOBS])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    jobs = [job for job in JOBS if job.name in given.jobs]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        home = Path(name)
        prepare(home)
        torch = ("torch", "quantbench.qat.pipeline") if any(job.name == "qat-export" for job in jobs) else ()
        with Server(*_MODULES, *torch) as server:
            start = time.monotonic()
            chaos = Chaos(home, server, start + given.seconds, random.Random(given.seed))
            for index, job in enumerate(jobs):
                left = given.seconds - (time.monotonic() - start)
                chaos.tries(job, left / (len(jobs) - index) * (1.5 if job.name == "ptq" else 1))
                print(job.name, dict(chaos.counts[job.name]), flush=True)
    total: Counter[str] = Counter()
    for found in chaos.counts.values():
        total.update(found)
    kinds = ("steps", "calls", "losses", "uncaught", "half_written", "not tried")
    data = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(time.monotonic() - start),
        "python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "faults injected": sum(count for kind, count in total.items() if kind not in kinds),
        **{kind: total[kind] for kind in kinds}, "jobs": {name: dict(found) for name, found in chaos.counts.items()},
        "findings": chaos.faults[:40],
    }  # fmt: skip
    print(json.dumps(data, indent=1)[:3000])
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
