"""Rules that choose between mse and minmax by calibration samples, against what held-out data say of both.

    python -m scripts.compare_choices OUT [--only NAME …] [--assets DIR] [--images 64] [--draws 4]
    python -m scripts.compare_choices OUT --table

For each draw of calibration samples both models are made of all of them and held against float on them ("same"), and of
either half and held against float on the other ("cross"): the lead of minmax in dB, the mean of the samples weighted by
their energy, with its standard error (`quantbench.core.auto.beside`). OUT gets one JSON a network.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import onnx

import quantbench
from quantbench.atomic import write_json
from quantbench.calibration.ort_outputs import runner, static_batch
from quantbench.core.auto import PRIOR, SAFE, beside
from quantbench.core.signal import energies_of, together
from quantbench.graph.load import load_model
from quantbench.ort import create_session
from scripts.compare_models import batches_of
from scripts.compared_networks import Case, Images, asked_for, made, parser_of

METHODS = (PRIOR, SAFE)
Energies = Mapping[str, Any]
Row = dict[str, Any]


class Network:
    """A float network, and what models of it miss by."""

    def __init__(self, case: Case) -> None:
        self._case, self._model = case, load_model(case.path)
        self._fixed, self._names = static_batch(self._model), [v.name for v in self._model.graph.output]

    def outputs(self, model: onnx.ModelProto, x: Images) -> list[dict[str, Any]]:
        """Of `x`, batch by batch."""
        run, key = runner(create_session(model, threads=1), self._fixed), self._model.graph.input[0].name
        size = self._fixed or self._case.batch
        found = (run({key: x[i : i + size]}) for i in range(0, len(x), size))
        return [dict(zip(self._names, each, strict=True)) for each in found]

    def energies(self, made_by: onnx.ModelProto, x: Images) -> Energies:
        """[2, samples] of each output: the float network's, and of what `made_by` misses it by."""
        pairs = list(zip(self.outputs(self._model, x), self.outputs(made_by, x), strict=True))
        size = self._fixed or self._case.batch
        counts = [min(size, len(x) - i) for i in range(0, len(x), size)]
        noise = [{n: a[n] - b[n] for n in a} for a, b in pairs]
        both = [
            together([energies_of(each, count) for each, count in zip(part, counts, strict=True)]).energies
            for part in ([a for a, _ in pairs], noise)
        ]
        return {name: np.stack([both[0][name], both[1][name]]) for name in both[0]}

    def quantized(self, x: Images, method: str) -> onnx.ModelProto:
        """As the default has it, calibrated on `x`; channels as they are."""
        batches = batches_of(replace(self._case, calibration=x), self._model)
        return quantbench.quantize(
            self._case.path, batches, calibrator=method, equalize="off", smooth="off", threads=1
        ).for_onnxruntime


def decibels(energies: Energies) -> float:
    """SQNR of the worst output."""
    found = [10 * np.log10(e[0].sum() / e[1].sum()) for e in energies.values() if e[0].sum() > 0 and e[1].sum() > 0]
    return round(float(min(found)), 2)


def lead(energies: Mapping[str, Energies]) -> list[float]:
    """That of minmax, and its standard error."""
    found = beside(energies[PRIOR], energies[SAFE], corrected=True)
    return [0.0, 0.0] if found is None else [round(found.lead_db, 2), round(found.error_db, 2)]


def measured(network: Network, x: Images, held: Images) -> Row:
    """One draw."""
    halves = x[: len(x) // 2], x[len(x) // 2 :]
    row: Row = {}
    same, cross = {}, {}
    for method in METHODS:
        whole = network.quantized(x, method)
        row[method] = decibels(network.energies(whole, held))
        same[method] = network.energies(whole, x)
        parts = [network.energies(network.quantized(halves[i], method), halves[1 - i]) for i in (0, 1)]
        cross[method] = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return row | {"same": lead(same), "cross": lead(cross), "cross_db": [decibels(cross[name]) for name in METHODS]}


def prior_unless(row: Row, key: str, errors: float) -> str:
    """mse, unless minmax leads by more."""
    return SAFE if row[key][0] > errors * row[key][1] else PRIOR


def safe_unless(row: Row, key: str, errors: float) -> str:
    """minmax, unless mse leads by more."""
    return PRIOR if -row[key][0] > errors * row[key][1] else SAFE


def rules() -> Iterator[tuple[str, Callable[[Row], str]]]:
    """Each in words, and what it takes."""
    yield "mse always", lambda row: PRIOR
    yield "minmax always", lambda row: SAFE
    for key in ("same", "cross"):
        for k in (0.0, 1.0, 1.645):
            yield (
                f"minmax, unless mse leads by over {k:g} standard errors ({key})",
                partial(safe_unless, key=key, errors=k),
            )
            yield f"mse, unless minmax leads by over {k:g} ({key})", partial(prior_unless, key=key, errors=k)
    yield "the higher SQNR (cross)", lambda row: PRIOR if row["cross_db"][0] >= row["cross_db"][1] else SAFE


def table(found: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Markdown: what each rule gains over mse in the mean of the networks, and where it loses."""
    draws = [row for rows in found.values() for row in rows]
    yield f"| {len(draws)} draws of {len(found)} networks | over mse, mean | worst network | behind minmax, draws |"
    yield "|---|---|---|---|"
    for words, take in rules():
        gains = {name: fmean(row[take(row)] - row[PRIOR] for row in rows) for name, rows in found.items()}
        worst = min(gains, key=lambda name: gains[name])
        behind = sum(row[SAFE] - row[take(row)] > 0.1 for row in draws)
        yield f"| {words} | {fmean(gains.values()):+.2f} | {gains[worst]:+.1f} {worst} | {behind} |"


def main() -> None:
    """Command line: see the module's first lines."""
    parser = parser_of(__doc__)
    parser.set_defaults(images=64)
    parser.add_argument("--draws", type=int, default=4)
    given = parser.parse_args()
    if given.table:
        files = sorted(Path(given.out).glob("*.json"))
        print("\n".join(table({file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files})))
        return
    each = given.images
    given.images = each * given.draws
    for name, make, file in asked_for(given):
        case = None if file.exists() else made(name, make)
        if case is None:
            continue
        order = np.random.default_rng(1).permutation(len(case.calibration))
        network, rows = Network(case), []
        for draw in range(given.draws):
            few = case.calibration[order[draw * each : (draw + 1) * each]]
            rows.append(measured(network, few, case.held_out[:512]))
            print(name, rows[-1], flush=True)
            write_json(file, rows)


if __name__ == "__main__":
    main()
