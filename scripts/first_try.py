"""The first try on many models: `quantbench ptq MODEL --calib-dir IMAGES` and nothing else, and what came of it.

    python scripts/first_try.py OUT IMAGES MODEL.onnx … [--more --no-compile]

Prints a Markdown row a model: works, or the one line that it ended with. OUT gets a run folder each, and what is there
is not done again. `--more` hands on further options.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def tried(model: Path, images: Path, out: Path, more: Sequence[str]) -> tuple[str, str]:
    """(works | names a fact | fails, what it said)."""
    command = [sys.executable, "-m", "quantbench", "ptq", str(model.resolve()), "--calib-dir", str(images.resolve())]
    done = subprocess.run([*command, "--out", str(out), *more], capture_output=True, text=True, cwd=_ROOT, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0:
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        places, sqnr = record["placement"], record["evaluation"]["outputs"]["sqnr_db"]
        count = f"{len(places['quantized'])} of {len(places['weighted'])} layers in INT8"
        return "works", f"{count}, {sqnr['value']:.1f} dB" if sqnr and "value" in sqnr else count
    said = next((line for line in lines if line.startswith("quantbench: ")), lines[-1] if lines else "nothing")
    fact = done.returncode == 2 and "Traceback" not in done.stderr and len(lines) < 4
    return "names a fact" if fact else f"fails ({done.returncode})", said.removeprefix("quantbench: ")


def main() -> None:
    """Command line: see the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[])
    given = parser.parse_args()
    for model in given.models:
        found, said = tried(model, given.images, given.out / model.stem, given.more)
        print(f"| {model.name} | {found} | {said} |", flush=True)


if __name__ == "__main__":
    main()
