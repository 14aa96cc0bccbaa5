"""Plots of docs/performance.md from the JSON of the two calibration benchmarks.

    python scripts/plot_calibration.py docs/measured/calibration

Reads calibration-cpu.json, calibration-cpu-peers.json and gpu-h100.json there, writes SVG beside them (matplotlib).
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot


def bars(data: dict[str, Any], path: Path) -> None:
    """Time of each way of calibrating as a multiple of the floor, one group a model."""
    models = data["models"]
    figure, axes = pyplot.subplots(1, len(models), figsize=(4.5 * len(models), 3), squeeze=False)
    for axis, (model, tables) in zip(axes[0], models.items(), strict=True):
        # The most images with two threads.
        key = max((k for k in tables if k.endswith(" 2 threads")), key=lambda k: int(k.split()[0]))
        rows = tables[key]
        known = {who: row for who, row in rows.items() if isinstance(row, dict) and "seconds_to_floor" in row}
        shown = {who: row["seconds_to_floor"] for who, row in known.items()} | {"floor": 1.0}
        order = [who for who in rows if who in shown]
        drawn = axis.barh(order, [shown[who] for who in order], color="#5b8c5a")
        axis.bar_label(drawn, [f"{shown[who]:.2f}" for who in order], padding=2, fontsize=8)
        axis.axvline(1.25, color="#b03a2e", linewidth=1, linestyle="--")
        # Ticks of a logarithmic axis that spans less than a factor of two lie on each other.
        scale = "log" if max(shown.values()) > 3 else "linear"
        axis.set(xscale=scale, title=f"{model}, {key}", xlabel="times the floor (dashed: 1.25)")
        axis.invert_yaxis()
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def lines(data: dict[str, Any], path: Path) -> None:
    """The kernel's share of the copy bandwidth over sizes, and the CPU sweep over threads."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3))
    for dtype in ("float32", "float16", "bfloat16"):
        rows = [row for row in data["bandwidth"] if row["dtype"] == dtype and row["values"] == "relu"]
        sizes = [row["MB"] for row in rows]
        (drawn,) = left.plot(sizes, [row["together_share_of_copy"] for row in rows], marker="o", label=dtype)
        alone = [row["share_of_copy"] for row in rows]
        left.plot(sizes, alone, marker=".", linewidth=1, linestyle=":", color=drawn.get_color())
    left.axhline(0.6, color="#b03a2e", linewidth=1, linestyle="--")
    left.set(xscale="log", xlabel="MB of one tensor (dotted: one a launch)", ylabel="share of copy bandwidth")
    left.set_title(data["gpu"])
    left.legend()
    for dtype in ("float32", "float16"):
        points = {int(k.split()[1]): v for k, v in data["cores"].items() if k.startswith(dtype)}
        right.plot(list(points), [1 / value for value in points.values()], marker="o", label=dtype)
    right.set(xlabel="threads", ylabel="elements a ns", title=f"sweep on {data['cores']['cores']} CPU cores")
    right.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Command line: see the module's first lines."""
    folder = Path(sys.argv[1])
    for name in ("calibration-cpu", "calibration-cpu-peers"):
        bars(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), folder / f"{name}.svg")
    lines(json.loads((folder / "gpu-h100.json").read_text(encoding="utf-8")), folder / "gpu-h100.svg")


if __name__ == "__main__":
    main()
