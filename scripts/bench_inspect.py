"""Time and memory of `inspect` on a big log: a real one, repeated until it has the size wanted.

Run: python scripts/bench_inspect.py [--megabytes 200] [--log FILE]
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from quantbench.inspection.export import to_json
from quantbench.inspection.gather import gather
from quantbench.inspection.page.render import page

ROOT = Path(__file__).resolve().parents[1]
LOG = ROOT / "tests" / "data" / "artefacts" / "logs" / "trt852_qdq_yolo_verbose.log"


def main() -> int:
    """Print seconds and peak memory (MiB) of reading, judging and rendering; exit code 1 beyond 20 s or 500 MiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--log", type=Path, default=LOG)
    options = parser.parse_args()
    one = options.log.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        big = Path(folder) / "big.log"
        with big.open("wb") as file:
            for _ in range(max(1, -(-options.megabytes * 1_000_000 // len(one)))):
                file.write(one)
        size = big.stat().st_size / 1e6
        start = time.perf_counter()
        inspection = gather([big])[0]
        read = time.perf_counter() - start
        to_json(inspection)
        page(inspection)
        whole = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    log = inspection.log
    builds = len(log.builds) if log is not None else 0
    lines = log.lines if log is not None else 0
    print(f"{size:.0f} MB, {lines} lines, {builds} builds, {len(inspection.layers)} layers in the last")
    print(f"read in {read:.1f} s ({size / read:.0f} MB/s), with JSON and page {whole:.1f} s, peak {peak:.0f} MiB")
    return 0 if whole <= 20 and peak <= 500 else 1


if __name__ == "__main__":
    sys.exit(main())
