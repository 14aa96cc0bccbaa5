"""Every command of docs/deciding.md runs, in its order, and does what the page says of it."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deciding.md"


def test_the_page_from_model_to_decision(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("animal_mnist", reason="the example's images: pip install -r requirements-assets.txt")
    text = PAGE.read_text(encoding="utf-8")
    recipe = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "animals.yaml").write_text(recipe.replace("max_images: 128", "max_images: 16").replace("400", "48"))
    shutil.copyfile(ROOT / "tests/data/models/animals_resnet18.onnx", tmp_path / "animals_resnet18.onnx")
    monkeypatch.chdir(tmp_path)
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line
    ]
    assert len(commands) == 11
    printed = {}
    for line in commands:
        line = line.replace("--images 16", "--images 2")
        words = shlex.split(line.replace("--max-images 400", "--max-images 48").replace("--seconds 1", "--seconds 0"))
        assert words[0] == "quantbench"
        if words[1] == "sweep":  # its processes take half a minute; tests/decide/test_sweep.py runs them
            words = [*words, "--minutes", "0"]
        code, out, error = cli(*words[1:])
        assert code == (3 if words[1] == "sweep" else 0), (line, error)
        printed[" ".join(words[:2]) + f" {len(printed)}"] = out
    told = "\n".join(printed.values())
    assert "top-1" in told
    # As the page says of this small network.
    assert "amber: Stay with FP16: INT8 is not worth it" in told
    assert "(McNemar, exact)" in told
    run = json.loads(Path("runs/tuned/run.json").read_text())
    assert run["evaluation"]["outputs"]["top1_change"]["value"] >= -0.005
    assert "Difference of the two runs" in Path("runs/both/report.md").read_text()
