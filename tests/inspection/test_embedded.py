"""Layers inside other text: between shell prompts, in a fence, quoted, layer by layer, or as Polygraphy prints."""

import json
from pathlib import Path

import pytest

from quantbench.cache.read import read_cache
from quantbench.inspection.detect import detect
from quantbench.inspection.gather import gather

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
GRAPH = ARTEFACTS / "json" / "trex_pt_qat_resnet-qat.onnx.engine.graph.json"
DATA = json.loads(GRAPH.read_text())
TEXT = json.dumps(DATA, indent=1)

POLYGRAPHY = """[I] Loading bytes from x.engine
[I] ==== TensorRT Engine ====
    Name: Unnamed Network 0 | Explicit Batch Engine

    ---- 1 Engine Input(s) ----
    {x [dtype=float32, shape=(1, 3, 8, 8)]}

    ---- 2 Layer(s) Per Profile ----
    - Profile: 0
        Layer 0    | x_QuantizeLinear [Op: Reformat]
            {x [dtype=float32, shape=(1, 3, 8, 8)]}
             -> {q [dtype=int8, shape=(1, 3, 8, 8)]}
            ---- Attributes ----
            Origin = QDQ
            Tactic = 0x0

        Layer 1    | w + w_QuantizeLinear + /a/Conv + /Add [Op: CaskConvolution]
            {q [dtype=int8, shape=(1, 3, 8, 8)],
             r [dtype=float16, shape=(1, 8, 8, 8)]}
             -> {y [dtype=float32, shape=(1, 8, 8, 8)]}

    - Profile: 1
        Layer 0    | x_QuantizeLinear [profile 1] [Op: Reformat]
            {x [dtype=float32, shape=(1, 3, 8, 8)]}
             -> {q [dtype=int8, shape=(1, 3, 8, 8)]}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("loop.txt", "x\n" + "".join(f"--- Layer {i} ---\n{json.dumps(x)}\n" for i, x in enumerate(DATA["Layers"]))),
        ("prompt.txt", f"user@host:~$ cat g.json\n{TEXT}\nuser@host:~$ \n"),
        ("issue.md", f"My engine:\n\n```json\n{TEXT}\n```\nthanks\n"),
        ("tail.json", f"{TEXT}\nuser@host:~$\n"),
        ("quoted.txt", "> hello\n" + "".join(f"> {line}\n" for line in TEXT.split("\n"))),
    ],
)  # fmt: skip
def test_the_inspectors_json_is_found(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    inspection = gather([path], siblings=False)[0]
    expected = gather([GRAPH], siblings=False)[0]
    assert inspection.layers == expected.layers
    assert inspection.sources[0].text == "text with the layers of an engine in it"


def test_broken_json_is_still_refused_and_prose_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text('the key "LayerType" is explained in [1]\n{not json}\n[2] there\n')
    assert gather([tmp_path / "x.txt"])[0].layers == ()


def test_what_polygraphy_prints_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(POLYGRAPHY)
    layers = gather([tmp_path / "p.txt"])[0].layers
    assert [(x.name, x.type, x.origin) for x in layers] == [
        ("x_QuantizeLinear", "Reformat", "QDQ"), ("w + w_QuantizeLinear + /a/Conv + /Add", "CaskConvolution", ""),
    ]  # fmt: skip
    assert [(t.name, t.dtype, t.dims) for t in layers[1].inputs] == [
        ("q", "INT8", (1, 3, 8, 8)), ("r", "FP16", (1, 8, 8, 8)),
    ]  # fmt: skip
    assert layers[1].outputs[0].dtype == "FP32"
    network = POLYGRAPHY.replace("TensorRT Engine", "TensorRT Network")
    (tmp_path / "n.txt").write_text(network)
    assert gather([tmp_path / "n.txt"])[0].layers == ()


def test_quoted_calibration_caches_are_read(tmp_path: Path) -> None:
    path = ARTEFACTS / "calib" / "mlperf05_resnet.cache"
    plain = read_cache(path)
    text = path.read_text()
    (tmp_path / "fence.txt").write_text(f"my cache:\n```\n{text}```\n".removeprefix("my cache:\n"))
    (tmp_path / "quote.txt").write_text("".join(f"> {line}\n" for line in text.strip().split("\n")))
    for name in ("fence.txt", "quote.txt"):
        assert detect(tmp_path / name).kind == "calibration-cache"
        assert read_cache(tmp_path / name).entries == plain.entries
