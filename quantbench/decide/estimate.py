"""What a search would do and about how long it takes, from one timed batch."""

import time

from quantbench.calibration.ort_outputs import padded, static_batch
from quantbench.core.quantize import BIAS_IMAGES
from quantbench.decide.sensitivity import IMAGES
from quantbench.decide.tune import METHODS, Effort, most_trials
from quantbench.decide.workbench import Workbench
from quantbench.ort import create_session
from quantbench.ort import run as ort_run

# A counted image costs a forward pass and the sweep over its tensors; bias correction runs both models, twice.
_CALIBRATION, _BIAS = 2.0, 4.0


def estimate(bench: Workbench, effort: Effort) -> list[str]:
    """Lines for `--dry-run`. The time is a guess from the float model's, on the machine as it is now."""
    session = create_session(bench.runnable, threads=bench.threads)
    feed, labels = next(iter(bench.batches()))
    whole = padded(feed, static_batch(bench.model))
    ort_run(session, None, whole)
    begin = time.perf_counter()
    ort_run(session, None, whole)
    image = (time.perf_counter() - begin) / len(labels)
    regions = len(bench.run.placement_facts.quantized)
    trials = most_trials(regions, effort)
    calibrated = len(bench.run.calibration.source)
    each = image * (bench.images + _BIAS * min(calibrated, BIAS_IMAGES))
    sensitivity = image * IMAGES * (regions + 20)
    seconds = image * _CALIBRATION * calibrated + sensitivity + trials * each
    return [
        f"calibrate on {calibrated} images, then measure on {bench.images} images against FP32",
        f"thresholds by {', '.join(METHODS[effort])}: one trial each; done where one meets the goal",
        f"else cost of {regions} regions on {min(IMAGES, bench.images)} images, and at most {trials} trials in all",
        f"about {seconds / 60:.1f} minutes at the most, at {1000 * image:.1f} ms an image now (a guess)",
    ]
