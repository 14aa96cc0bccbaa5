"""Hold the ranking of `quantbench sensitivity` against brute force: each region in a model of its own, run whole.

    python scripts/check_sensitivity.py RECIPE --images 8

Prints Spearman's rank correlation over the top 20 regions and over all, and the seconds of both.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from quantbench.calibration.ort_outputs import static_batch
from quantbench.cli.decide_options import bench_of
from quantbench.decide.sensitivity import measure_sensitivity
from quantbench.evaluate.pairs import Noise, worst
from quantbench.evaluate.task import find_task
from quantbench.latency.judge import spearman
from quantbench.ort import create_session
from quantbench.ptq.measure import runner
from quantbench.qdq.carry_out import carry_out
from quantbench.qdq.plan import Plan
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
    given = parser.parse_args()
    bench = bench_of(load_recipe(given.recipe))
    ranges = bench.ranges(given.calibrator)
    begin = time.perf_counter()
    found = measure_sensitivity(bench, given.calibrator, images=given.images)
    ours = time.perf_counter() - begin

    plan = bench.plan(Settings(given.calibrator))
    fixed = static_batch(bench.model)
    feeds, left = [], given.images
    for feed, labels in bench.batches():
        if left > 0:
            take = min(left, len(labels))
            feeds.append({name: np.asarray(array)[:take] for name, array in feed.items()})
            left -= take
    reference = runner(create_session(bench.model), fixed)
    plain = [reference(feed) for feed in feeds]
    task = find_task(plain[0], bench.facts)
    brute = []
    begin = time.perf_counter()
    for cost in found.regions:
        nodes = set(cost.nodes)
        alone = Plan(tuple(s for s in plan.activations if s.node in nodes),
                     tuple(s for s in plan.weights if s.node in nodes))  # fmt: skip
        run = runner(create_session(carry_out(bench.model, alone, ranges).model), fixed)
        noise = Noise(task, bench.output_names())
        for feed, outputs in zip(feeds, plain, strict=True):
            noise.update(outputs, run(feed), len(next(iter(feed.values()))))
        value = worst(noise.result())
        brute.append(10 ** (-value.value / 10) if isinstance(value, Measured) else 0.0)
    theirs = time.perf_counter() - begin
    mine = [cost.noise for cost in found.regions]
    print(f"{len(mine)} regions, {found.images} images")
    print(f"Spearman {spearman(mine[:TOP], brute[:TOP]):.4f} over the top {TOP}, {spearman(mine, brute):.4f} over all")
    print(f"{ours:.1f} s (with {TOP} regions alone in float besides), {theirs:.1f} s by brute force")


if __name__ == "__main__":
    main()
