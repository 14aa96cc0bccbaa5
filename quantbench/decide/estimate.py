"""What a search would do and about how long it takes, from one timed batch."""

import time

from quantbench.calibration.ort_outputs import padded, static_batch
from quantbench.core.quantize import BIAS_IMAGES
from quantbench.decide.sensitivity import IMAGES
from quantbench.decide.tune import FOLDED, METHODS, Search, most_trials
from quantbench.ort import create_session
from quantbench.ort import run as ort_run

# A counted image costs a forward pass and the sweep over its tensors; bias correction runs both models, twice; rounding
# also multiplies out what layers are given (EfficientNet-Lite0 and BlazeFace, 64 images: 15 to 20 passes).
_CALIBRATION, _BIAS, _ROUNDING = 2.0, 4.0, 20.0


def estimate(search: Search) -> list[str]:
    """Lines for `--dry-run`. The time is a guess from the float model's, on the machine as it is now."""
    bench, effort = search.bench, search.effort
    session = create_session(bench.runnable, threads=bench.threads)
    feed, labels = next(iter(bench.batches()))
    whole = padded(feed, static_batch(bench.model))
    ort_run(session, None, whole)
    begin = time.perf_counter()
    ort_run(session, None, whole)
    image = (time.perf_counter() - begin) / len(labels)
    regions = len(bench.run.placement_facts.quantized)
    skips, timed = search.has_skips(), search.timing is not None
    trials = most_trials(regions, effort, skips=skips, timed=timed)
    calibrated = len(bench.run.calibration.source)
    each = image * (bench.images + _BIAS * min(calibrated, BIAS_IMAGES))
    sensitivity = image * IMAGES * (regions + 20)
    counted = image * _CALIBRATION * calibrated
    rounding = image * _ROUNDING * min(calibrated, BIAS_IMAGES)
    # With all time given, all that follows may go on from rounded weights.
    rounded = trials - len(METHODS[effort]) if effort == "full" else 1
    seconds = (1 + len(FOLDED)) * counted + sensitivity + trials * each + rounded * rounding
    when = "in any case" if effort == "full" else "where a region alone misses the goal"
    return [
        f"calibrate on {calibrated} images, then measure on {bench.images} images against FP32",
        f"thresholds by {', '.join(METHODS[effort])}: one trial each, {_span(each)}; done where one meets the goal",
        *([f"else skip connections in float: one trial, {_span(each)}"] if skips else []),
        f"else {', then '.join(FOLDED.values())}, where layers gain by it: one trial each, {_span(each + counted)}",
        f"else cost of {regions} regions on {min(IMAGES, bench.images)} images, {_span(sensitivity)}",
        f"then weights rounded adaptively, {when}: one trial, {_span(each + rounding)}",
        f"else regions in float until the goal is met, steps back: at most {trials} trials in all, {_span(each)} each",
        *(["then the best placement by the predictor, taken where it is faster: one trial"] if timed else []),
        f"about {seconds / 60:.1f} minutes at the most, at {1000 * image:.1f} ms an image now (a guess)",
    ]


def _span(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.1f} min"
