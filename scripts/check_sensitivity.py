"""Hold the ranking of `quantbench sensitivity` against brute force: each region in a model of its own, run whole.

    python -m scripts.check_sensitivity RECIPE --images 16

Prints Spearman's rank correlation over the top 20 regions and over all, and the seconds of both (on the clock, and of
the processor).
"""

import argparse
import time
from pathlib import Path

from quantbench.calibration.ort_outputs import parts_of, runner, static_batch
from quantbench.cli.decide_options import bench_of
from quantbench.decide.regions import grouped, part_of
from quantbench.decide.sensitivity import measure_sensitivity
from quantbench.evaluate.pairs import Noise, worst
from quantbench.evaluate.task import find_task
from quantbench.latency.judge import spearman
from quantbench.ort import create_session
from quantbench.qdq.insert import insert_qdq
from quantbench.recipe import load_recipe
from quantbench.records.evaluation import Measured
from quantbench.records.search import Settings

TOP = 20


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--calibrator", default="mse")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    bench = bench_of(load_recipe(given.recipe))
    bench.threads = given.threads
    bench.ranges(given.calibrator)
    begin = clock()
    found = measure_sensitivity(bench, Settings(given.calibrator), images=given.images)
    ours = since(begin)

    plan = bench.plan(Settings(given.calibrator))
    ranges, fixed = grouped(plan, bench.ranges(given.calibrator)), static_batch(bench.model)
    feeds, left = [], given.images
    for feed, labels in bench.batches():
        if left > 0:
            feeds.append(parts_of(feed, min(left, len(labels)))[0])
            left -= len(labels)
    reference = runner(create_session(bench.model, threads=given.threads), fixed)
    plain = [reference(feed) for feed in feeds]
    task = find_task(plain[0], bench.facts)
    brute = []
    begin = clock()
    for cost in found.regions:
        alone = part_of(plan, set(cost.nodes).__contains__)
        run = runner(create_session(insert_qdq(bench.model, alone, ranges), threads=given.threads), fixed)
        noise = Noise(task, bench.output_names())
        for feed, outputs in zip(feeds, plain, strict=True):
            noise.update(outputs, run(feed), len(next(iter(feed.values()))))
        value = worst(noise.result())
        brute.append(10 ** (-value.value / 10) if isinstance(value, Measured) else 0.0)
    theirs = since(begin)
    mine = [cost.noise for cost in found.regions]
    print(f"{len(mine)} regions, {found.images} images")
    print(f"Spearman {spearman(mine[:TOP], brute[:TOP]):.4f} over the top {TOP}, {spearman(mine, brute):.4f} over all")
    print(f"sensitivity: {ours} (with {TOP} regions alone in float besides); brute force: {theirs}")


def clock() -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    return time.perf_counter(), time.process_time()


def since(begin: tuple[float, float]) -> str:
    """In words, since `begin`."""
    wall, processor = (now - then for now, then in zip(clock(), begin, strict=True))
    return f"{wall:.1f} s, {processor:.1f} s of the processor"


if __name__ == "__main__":
    main()
