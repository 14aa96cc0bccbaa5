"""What a placement option costs or gains: SQNR of every output on held-out data, predicted kernels and cost.

Run: python scripts/compare_rules.py OUT tiny_channels=8 tiny_channels=0 [--only NAME …] [--images 32] [--assets DIR],
then with --table for Markdown. A choice is `option=value`, several with commas, of `PlacementOptions`; `rules` alone is
none. Networks and data are those of scripts/compare_models.py. OUT gets one JSON a network; what is there is not done
again. To compare rules of two commits give each an OUT of its own.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

import quantbench
from quantbench.atomic import write_json
from quantbench.graph.load import load_model
from quantbench.predict.cost import cost_of
from quantbench.predict.simulate import predict_model
from quantbench.qdq.options import PlacementOptions
from scripts.compare_models import batches_of, compared, int8_layers
from scripts.compared_networks import Case, asked_for, made, parser_of

METHODS = ("minmax", "mse")
VERSIONS = ("8.5", "10.9")


def options_of(choice: str) -> PlacementOptions:
    """The options that `choice` names. Raises TypeError for one that there is not."""
    pairs = (part.split("=") for part in choice.split(",") if part != "rules")
    return replace(PlacementOptions(), **{key: json.loads(value) for key, value in pairs})


def row(case: Case, options: PlacementOptions, method: str, target: Path) -> Mapping[str, Any]:
    """Quantize by `method`, measure, predict."""
    batches = batches_of(case, load_model(case.path))
    onnx.save(
        quantbench.quantize(
            case.path, batches, calibrator=method, threads=1, placement=options, equalize="off", smooth="off"
        ).model,
        target,
    )
    found = compared(case, target)
    parts = {part.name: getattr(part.sqnr, "value", str(part.sqnr)) for part in found.models[1].errors}
    against = {key: value.value for key, value in found.models[1].against.items()}
    int8, weighted = int8_layers(target)
    costs = {}
    for version in VERSIONS:
        seen = predict_model(onnx.load(str(target)), version=version)
        costs[version] = {"kernels": len(seen.layers), "left_over": len(seen.leftover), "cost": cost_of(seen)}
    return {"int8": int8, "weighted": weighted, "sqnr_db": parts, **against, "predicted": costs}


def table(out: Path) -> Iterator[str]:
    """Markdown rows of all networks that are measured."""
    costs = " | ".join(f"kernels, left over, cost ({version})" for version in VERSIONS)
    yield f"| network | choice | calibrator | INT8 | SQNR of each output (dB) | {costs} |"
    yield "|---|---|---|---|---|---|---|"
    for file in sorted(out.glob("*.json")):
        for key, found in json.loads(file.read_text(encoding="utf-8")).items():
            choice, method = key.rsplit(" ", 1)
            parts = ", ".join(f"{v:.2f}" if isinstance(v, float) else v for v in found["sqnr_db"].values())
            predicted = (found["predicted"][version] for version in VERSIONS)
            cells = [file.stem, choice, method, f"{found['int8']} of {found['weighted']}", parts]
            cells += [f"{c['kernels']}, {c['left_over']}, {c['cost'] / 1e6:.2f}" for c in predicted]
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    """See the module."""
    parser = parser_of(__doc__)
    parser.add_argument("choices", nargs="*", default=["rules"])
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    for name, make, file in asked_for(given):
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        wanted = [(choice, method) for choice in given.choices for method in METHODS]
        if all(" ".join(key) in found for key in wanted):
            continue
        case = made(name, make)
        if case is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for choice, method in wanted:
                key = f"{choice} {method}"
                if key not in found:
                    found[key] = row(case, options_of(choice), method, Path(folder) / "quantized.onnx")
                    write_json(file, found)
                    print(f"{name} {key}: {found[key]}", flush=True)


if __name__ == "__main__":
    main()
