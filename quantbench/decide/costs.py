"""Milliseconds on a device for what the predictor says of a model. The one place that knows the latency model."""

from quantbench.decide.tune import Timing
from quantbench.report.decision import Times


def times_of(device: str) -> Times | None:
    """How to time a model on `device` ("" for all devices that are known); None where no device is."""
    return None


def timing_of(device: str) -> Timing | None:
    """Milliseconds of a Q/DQ model and of its float twin on `device`; None where no device is named."""
    return None
