"""What placement closes where quantbench's default is predicted slower than the best peer: three networks whose heads
the rules keep in float, each with that head in INT8 and with TensorRT 10's fused SiLU Adds.

Run: python -m scripts.compare_heads OUT --models DIR [--only NAME …] [--images 64] [--assets DIR], then with --table.
DIR holds the peers' models (scripts/compare_decisions.py or scripts/compare_traffic.py make them). OUT gets one JSON a
network; ranges by mse, accuracy on held-out data, milliseconds predicted.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import quantbench
from quantbench.atomic import write_json
from quantbench.graph.load import load_model
from quantbench.qdq.options import PlacementOptions
from quantbench.qdq.place import place
from quantbench.qdq.plan import Plan
from quantbench.runnable import view_to_quantize
from scripts.compare_decisions import Made, accuracy, kept_folder, plain, predicted
from scripts.compare_models import batches_of, int8_layers
from scripts.compared_networks import Case, asked_for, parser_of

NETWORKS = ("blazeface", "nudenet", "opennsfw")
_DEFAULT = PlacementOptions()
SETTINGS = {
    "default": _DEFAULT,
    "head_float: false, tiny_channels: 0": replace(_DEFAULT, head_float=False, tiny_channels=0),
    'tensorrt: "10.9"': replace(_DEFAULT, silu_residual=True),
    'tensorrt: "10.9", head_float: false': replace(_DEFAULT, silu_residual=True, head_float=False),
}
PEERS = ("ModelOpt",)


def quantized(case: Case, options: PlacementOptions, target: Path) -> Made:
    """By the public function."""
    batches = batches_of(case, load_model(case.path))
    found = quantbench.quantize(case.path, batches, calibrator="mse", placement=options, threads=1,
                                equalize="off", smooth="off")  # fmt: skip
    onnx.save(found.model, target)
    return Made(target, target)


def rows(case: Case, folder: Path, known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(setting or peer, figures) of each that is not `known`; settings that change nothing are left out."""
    view = view_to_quantize(load_model(case.path))
    plans: list[Plan] = []
    for name in (*SETTINGS, *PEERS):
        if name in SETTINGS:
            plan = place(view, SETTINGS[name])
            if plan in plans:
                continue
            plans.append(plan)
        if name in known:
            continue
        target = folder / ("setting.onnx" if name in SETTINGS else f"{name}.onnx")
        made = quantized(case, SETTINGS[name], target) if name in SETTINGS else Made(target, target)
        int8, weighted = int8_layers(made.built)
        yield name, {"ms": predicted(made, "INT8"), "int8": int8, "weighted": weighted, **accuracy(case, made)}


def table(out: Path) -> Iterator[str]:
    """Markdown: a setting a row."""
    yield "| network | setting | SQNR | answers or boxes alike | ms, A100 / Orin | INT8 |"
    yield "|---|---|---|---|---|---|"
    for file in sorted(out.glob("*.json")):
        for name, row in json.loads(file.read_text(encoding="utf-8")).items():
            alike = row.get("agreement") or row.get("boxes_kept")
            share = f"{100 * alike['value']:.1f} %" if alike else "-"
            ms = " / ".join(f"{row['ms'][device]:.3g}" for device in ("a100", "orin"))
            yield (
                f"| {file.stem} | {name} | {row['sqnr_db']['value']:.1f} dB | {share} | {ms} | "
                f"{row['int8']} of {row['weighted']} |"
            )


def main() -> None:
    """See the module."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder that has the peers' models")
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    given.only = given.only or list(NETWORKS)
    for name, maker, file in asked_for(given):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        with kept_folder(given.models, name) as folder:
            case = plain(maker(), folder)
            for setting, row in rows(case, folder, dict(found)):
                found[setting] = row
                write_json(file, found)
                print(name, setting, json.dumps({k: np.round(v["value"], 3) for k, v in row.items() if
                      isinstance(v, dict) and "value" in v}), row["ms"], flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
