"""Images a second of calibration against decoding threads, processes and pieces, from a folder and from tar shards.

    python scripts/bench_workers.py OUT [--images 160] [--cores 1 2] [--rounds 1] [--ray]

Pictures are made: JPEG of 500x375 out of smooth noise, the size of ImageNet's, the same in a folder and in tars of 16.
Each figure is the counting of `quantbench ptq` in a process of its own, of EfficientNet-Lite0 with its own
preprocessing, on as many cores as the most of --cores; onnxruntime's threads are told. Wall time is from opened data to
histograms, with sessions made and processes started; CPU time, of all processes, holds on a machine that others use
too. All histograms are held against each other, bit for bit. Writes OUT/workers.json.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_SIZE = (500, 375)
_IN_A_TAR = 16
_BATCH = 8


@dataclass(frozen=True)
class Setting:
    """`data`: folder or shards; onnxruntime's `threads` of each process; decoding `workers` of each; `how`: one, or
    processes, or ray, of which there are `processes`, in `pieces` (0: one process, no pieces)."""

    data: str
    threads: int
    workers: int
    how: str = "one"
    processes: int = 1
    pieces: int = 0

    @property
    def named(self) -> str:
        many = "" if self.how == "one" else f", {self.processes} {self.how} in {self.pieces} pieces"
        return f"{self.data}, {self.threads} threads, {self.workers} decoding{many}"


def settings(cores: list[int], ray: bool) -> list[Setting]:
    """What is measured: decoding threads against one core, more threads against more processes, both kinds of data."""
    found = []
    for data in ("folder", "shards"):
        found += [Setting(data, 1, workers) for workers in sorted({1, *cores})]
        found += [Setting(data, count, count) for count in cores if count > 1]
        found += [Setting(data, 1, 1, "processes", count, 12) for count in cores]
    most = max(cores)
    found += [Setting("shards", 1, 1, "processes", most, pieces) for pieces in (most, 4 * most)]
    found += [Setting("shards", 1, 1, "ray", most, 12)] if ray else []
    return list(dict.fromkeys(found))


def make_pictures(folder: Path, images: int) -> None:
    """The same JPEG files in `folder`/folder and, sixteen each, in tars in `folder`/shards."""
    for name in ("folder", "shards"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for start in range(0, images, _IN_A_TAR):
        with tarfile.open(folder / "shards" / f"train-{start // _IN_A_TAR:03d}.tar", "w") as shard:
            for number in range(start, min(start + _IN_A_TAR, images)):
                coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(
                    _SIZE, Image.Resampling.BICUBIC
                )
                noise = rng.integers(-12, 13, (_SIZE[1], _SIZE[0], 1))
                pixels = np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8)
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, "JPEG", quality=90)
                (folder / "folder" / f"{number:05d}.jpg").write_bytes(stream.getvalue())
                info = tarfile.TarInfo(f"{number:05d}.jpg")
                info.size = len(stream.getvalue())
                shard.addfile(info, io.BytesIO(stream.getvalue()))


def one(setting: Setting, folder: Path) -> dict[str, Any]:
    """One figure, in this process."""
    from quantbench.compilation.request import CompileRequest
    from quantbench.cores import use_decoders
    from quantbench.data.sources import feeds
    from quantbench.demo import efficientnet_lite0
    from quantbench.progress import Progress
    from quantbench.ptq import stages
    from quantbench.ptq.calibrate import Pass, calibrate
    from quantbench.ptq.prepare import prepare
    from quantbench.ptq.request import DataChoice, ModelChoice, PtqRequest, Spread
    from quantbench.ptq.spread import calibrate_in_pieces
    from quantbench.ptq.spreading import counting_of, spread_over

    spread = Spread(setting.processes if setting.how == "processes" else 0, "local" if setting.how == "ray" else "",
                    setting.pieces)  # fmt: skip
    data = DataChoice(folder / setting.data, preprocess="efficientnet-lite", max_images=1 << 20)
    request = PtqRequest(
        ModelChoice(str(efficientnet_lite0.onnx_path())), data, calibrator="minmax", batch_size=_BATCH,
        threads=setting.threads, compile=CompileRequest("none"), spread=spread,
    )  # fmt: skip
    run = prepare(request)
    counting = counting_of(request, run)
    source = run.calibration.source
    use_decoders(setting.workers)
    quiet = Progress("none")
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        before, cpu = time.perf_counter(), _processor_time()
        if setting.how == "one":
            wanted = Pass(run.model.proto, counting.tensors, lambda: feeds(source, run.model.input_name, _BATCH),
                          len(source), counting.needed, setting.threads)  # fmt: skip
            found = calibrate(wanted, state, stages.histograms_key(counting), quiet)
        else:
            how = spread_over(request, run, counting, None, refresh=False)
            found = calibrate_in_pieces(how, run.model.proto, source, state, stages.histograms_key(counting), quiet)
        seconds, cpu = time.perf_counter() - before, _processor_time() - cpu
    digest = hashlib.sha256()
    for tensor, histogram in sorted(found.items()):
        digest.update(f"{tensor} {histogram.exponent} {histogram.amax}".encode() + histogram.counts.tobytes())
    return {
        "images": len(source), "seconds": seconds, "cpu_seconds": cpu, "histograms": digest.hexdigest(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_mb_of_a_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }  # fmt: skip


def _processor_time() -> float:
    """Of this process and of those of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def child(setting: Setting, folder: Path, cores: int) -> dict[str, Any] | str:
    """The same in a fresh process on the first `cores` cores; the last line of its error where it fails."""
    text = json.dumps(setting.__dict__)
    command = ["taskset", "-c", f"0-{cores - 1}", sys.executable, __file__, str(folder), "--one", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no output"])[-1]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def row(setting: Setting, rounds: list[dict[str, Any] | str]) -> dict[str, Any]:
    """Medians of the rounds; every figure that failed is told."""
    good = [found for found in rounds if isinstance(found, dict)]
    if not good:
        return {"setting": setting.named, "failed": rounds[0]}
    images = good[0]["images"]
    found: dict[str, Any] = {"setting": setting.named, **setting.__dict__, "rounds": len(good)}
    found["images_per_second"] = round(images / median(r["seconds"] for r in good), 2)
    found["cpu_ms_an_image"] = round(1000 * median(r["cpu_seconds"] for r in good) / images, 2)
    for key in ("peak_mb", "peak_mb_of_a_process"):
        found[key] = round(max(r[key] for r in good))
    found["histograms"] = good[0]["histograms"][:16]
    return found


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="measure a local Ray cluster besides")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(Setting(**json.loads(given.one)), given.out)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    import onnxruntime

    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]), "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__},
        "cpu": next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), ""),
        "cores": os.cpu_count(), "load_before": os.getloadavg(), "batch": _BATCH, "images": given.images, "rows": [],
    }  # fmt: skip
    wanted = settings(given.cores, given.ray)
    rounds: dict[Setting, list[dict[str, Any] | str]] = {setting: [] for setting in wanted}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder, given.images)
        for _ in range(given.rounds):
            for setting in wanted:
                rounds[setting].append(child(setting, folder, max(given.cores)))
                print(setting.named, rounds[setting][-1], flush=True)
    report["rows"] = [row(setting, found) for setting, found in rounds.items()]
    report["load_after"] = os.getloadavg()
    digests = {r["histograms"] for found in rounds.values() for r in found if isinstance(r, dict)}
    report["all_histograms_alike"] = len(digests) == 1
    (given.out / "workers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for entry in report["rows"]:
        print(entry.get("setting"), entry.get("images_per_second", entry.get("failed")), entry.get("cpu_ms_an_image"))
    print("all histograms alike:", report["all_histograms_alike"])


if __name__ == "__main__":
    main()
