"""trtexec's statistics under the name that the engines know them by."""

from quantbench.statistics import Milliseconds, Stats, percentile, summarize, throughput

__all__ = ["Milliseconds", "Stats", "percentile", "summarize", "throughput"]
