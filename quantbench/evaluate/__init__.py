"""Measuring a quantized model against its float original: agreement, accuracy, SQNR, latency, with intervals."""

from quantbench.callable_rooms import make_callable

make_callable(__name__)
