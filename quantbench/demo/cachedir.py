"""Where demo models are kept between runs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$QUANTBENCH_CACHE`, else `$XDG_CACHE_HOME/quantbench`, else `~/.cache/quantbench`. It may not exist yet."""
    if own := os.environ.get("QUANTBENCH_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "quantbench"
