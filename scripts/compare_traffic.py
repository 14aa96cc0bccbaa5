"""Megabytes that TensorRT-RTX's engines of trained networks move, in FP32, FP16 and INT8 by four ways.

Run: python -m scripts.compare_traffic OUT --models DIR [--only NAME …] [--images 64] [--assets DIR], then with --table
for the Markdown of docs/decisions-compared.md. Models are those of scripts/compare_decisions.py, taken from DIR where
they are there and made where not; but `tuned`, whose goal hangs on the peers' figures, has to be there. OUT gets one
JSON a network. Engines are for sm86, batch 1, compiled ahead of time without a GPU; what stays float is in FP16, but
for FP32 itself. Wants `quantbench[rtx]`.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from quantbench.atomic import write_json
from quantbench.compilation.engine_layers import real_layers
from quantbench.compilation.traffic import compile_summary
from quantbench.engines import tensorrt_rtx
from quantbench.engines.base import BuildOptions
from quantbench.graph.load import load_model
from quantbench.graph.ops import WEIGHTED
from quantbench.graph.to_fp16 import to_fp16
from scripts.compare_decisions import TUNED, VARIANTS, Made, kept_folder, make, plain
from scripts.compared_networks import Case, asked_for, parser_of


def engine_facts(made: Made, variant: str, folder: Path) -> dict[str, Any]:
    """Figures of the engine. Raises QuantbenchError where the compiler refuses the model."""
    model = load_model(made.built)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = folder / "rtx.onnx"
    onnx.save(model if variant == "FP32" else to_fp16(model), path)
    layers = real_layers(tensorrt_rtx.build(path, BuildOptions(targets=("sm86",))))
    weighted = [node.name for node in model.graph.node if node.op_type in WEIGHTED]
    totals = compile_summary(layers, (), weighted)
    return {
        "traffic_mb": round(totals.traffic_bytes / 1e6, 2),
        "kernels": totals.layers,
        "conversions": len(totals.conversions),
        "int8": totals.weighted_int8,
        "weighted": totals.weighted,
    }


def compare(name: str, maker: Callable[[], Case], file: Path, given: Namespace) -> None:
    """Fill the JSON of one network with what it lacks."""
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    lacking = [v for v in given.variants if v not in rows]
    if "tuned" in lacking and not (given.models / name / TUNED).exists():
        lacking.remove("tuned")
    if not lacking:
        return
    with kept_folder(given.models, name) as folder:
        case = plain(maker(), folder)
        for variant in lacking:
            try:
                rows[variant] = engine_facts(make(variant, case, folder, {}), variant, folder)
            except Exception as error:  # a tool that fails on a network, or a refused model, is a result
                rows[variant] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            write_json(file, rows)
            print(f"{name} {variant}: {_cell(rows[variant])}", flush=True)


def table(out: Path) -> Iterator[str]:
    """Markdown: one network a row, one variant a column; MB, and kernels that only convert."""
    yield "| network | " + " | ".join(VARIANTS) + " |"
    yield "|---" * (len(VARIANTS) + 1) + "|"
    for file in sorted(out.glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))
        yield f"| {file.stem} | " + " | ".join(_cell(rows.get(v, {"failed": "not run"})) for v in VARIANTS) + " |"


def _cell(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return "refused" if row["failed"].startswith("QuantbenchError") else f"fails: {row['failed'][:60]}"
    return f"{row['traffic_mb']:.3g} ({row['conversions']})"


def main() -> None:
    """See the module."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--models", type=Path, help="folder to keep the models in, and to take those from that are there"
    )
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    given = parser.parse_args()
    if given.table:
        print("\n".join(table(given.out)))
        return
    for name, maker, file in asked_for(given):
        try:
            compare(name, maker, file, given)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}", flush=True)


if __name__ == "__main__":
    main()
