"""What scaling channels first, as the default does where it helps, gains on held-out data and costs.

Run: python -m scripts.compare_channels OUT [--only NAME …] [--images 64] [--assets DIR], then the same with --table for
the Markdown of docs/accuracy.md. Each network is quantized by `quantbench.quantize` with and without, in turns, twice
each, in one thread; times are of the processor, the least of each. OUT gets one JSON a network.
"""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import onnx

import quantbench
from quantbench.atomic import write_json
from quantbench.graph.load import load_model
from scripts.compare_models import batches_of, measured
from scripts.compared_networks import Case, asked_for, made, parser_of

_ROUNDS = 2
Mode = Literal["off", "auto"]
_MODES: tuple[Mode, Mode] = ("off", "auto")


def row(case: Case, folder: Path) -> dict[str, Any]:
    """dB, seconds and what was done, of both."""
    batches = batches_of(case, load_model(case.path))
    seconds: dict[Mode, list[float]] = {mode: [] for mode in _MODES}
    results = {}
    for turn in range(_ROUNDS):
        for mode in _MODES if turn % 2 == 0 else _MODES[::-1]:
            start = time.process_time()
            results[mode] = quantbench.quantize(case.path, batches, equalize=mode, smooth=mode, threads=1)
            seconds[mode].append(time.process_time() - start)
            gc.collect()
    folded = results["auto"].folded
    assert folded is not None
    found: dict[str, Any] = {"folded": json.loads(folded.to_json()), "date": time.strftime("%Y-%m-%d")}
    for mode in _MODES:
        target = folder / f"{case.name}-{mode}.onnx"
        if mode == "off" or folded.taken:
            onnx.save(results[mode].model, target)
            found[mode] = measured(case, target)["sqnr_db"]["value"]
            target.unlink()
        found[f"seconds_{mode}"] = round(min(seconds[mode]), 2)
    return found


def table(out: Path) -> Iterator[str]:
    """The Markdown rows of all networks that are measured."""
    yield "| network | as it is | by default | takes | promised, dB a layer | seconds | more |"
    yield "|---|---|---|---|---|---|---|"
    for file in sorted(out.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        folded, plain, scaled = found["folded"], found["seconds_off"], found["seconds_auto"]
        taken = " and ".join(folded["taken"]) or "nothing"
        gain = max((gain["gain_db"] for gain in folded["gains"]), default=0.0)
        yield (
            f"| {file.stem} | {found['off']:.1f} | {found.get('auto', found['off']):.1f} | {taken} | {gain:.1f} | "
            f"{plain:.1f} | {scaled / plain - 1:+.0%} |"
        )


def main() -> None:
    """See the module."""
    given = parser_of(__doc__).parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    for name, make, file in asked_for(given):
        case = None if file.exists() else made(name, make)
        if case is not None:
            write_json(file, row(case, given.out))
            print(f"{name}: {file.read_text(encoding='utf-8')}", flush=True)


if __name__ == "__main__":
    main()
