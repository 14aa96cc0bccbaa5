"""Every file of the MANIFEST is recognised, read and judged; layers are counted independently."""

import json
import re
from pathlib import Path

import pytest

from quantbench.inspection.detect import detect
from quantbench.inspection.export import to_json
from quantbench.inspection.gather import gather
from quantbench.inspection.layer_json import read_layer_info
from quantbench.inspection.logs.build_log import read_build_log
from quantbench.inspection.page.render import page

ARTEFACTS = Path(__file__).parents[1] / "data" / "artefacts"
ROWS = [line.split("\t") for line in (ARTEFACTS / "MANIFEST.tsv").read_text().split("\n")[1:] if line]
KIND_OF = {
    "layer-info": "layer-info", "inspector-json": "layer-info", "layer-info-names-only": "layer-info",
    "profile": "profile", "timing": "timing", "metadata": "metadata", "iprofiler-json": "latency-lists",
    "log": "log", "verbose-log": "log", "verbose-log-qdq-int8": "log", "verbose-log-rtx": "log",
    "dla-placement-excerpt": "log",
}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [(row[0], row[1]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_recognised_read_and_shown(name: str, kind: str) -> None:
    path = ARTEFACTS / name
    expected = "calibration-cache" if kind.startswith("calib-") else KIND_OF[kind]
    assert detect(path).kind == expected
    inspections = gather([path], siblings=False)
    assert len(inspections) == 1
    data = json.loads(json.dumps(to_json(inspections[0]), allow_nan=False))
    assert data["sources"][0]["kind"] == expected
    html = page(inspections[0])
    assert "<script src" not in html
    assert "http://" not in html
    assert "https://" not in html


def _layer_lines(path: Path) -> int:
    """Lines that begin a layer, by plain text."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return len(re.findall(r"^(?:Layer\(\w+\): |Name: .*, LayerType: )", text, re.MULTILINE))


@pytest.mark.parametrize("path", sorted((ARTEFACTS / "logs").iterdir()), ids=lambda p: p.name)
def test_layers_of_logs_equal_an_independent_count(path: Path) -> None:
    assert read_build_log(path).layer_lines == _layer_lines(path)


@pytest.mark.parametrize(
    "path", [ARTEFACTS / r[0] for r in ROWS if KIND_OF.get(r[1]) == "layer-info"], ids=lambda p: p.name
)
def test_layers_of_json_equal_an_independent_count(path: Path) -> None:
    data = json.loads(path.read_text())
    info = read_layer_info(data)
    assert [x.name for x in info.layers] == [x if isinstance(x, str) else x["Name"] for x in data["Layers"]]
    assert list(info.bindings) == data["Bindings"]
    assert info.names_only == all(isinstance(x, str) for x in data["Layers"])


def test_builds_in_logs(artefacts: Path) -> None:
    """Counted by hand: lines `Engine Layer Information:` or `Layers:` begin an engine's dump."""
    builds = {
        "cookbook1016_04-Feature_ProfilingVerbosity_log-main.py.log": [16, 16, 26],
        "trtrtx17_resnet18_fp32_then_qdq.log": [37, 52],
        "cookbook86_09-BestPractice_AlignSize_result-A30-trtexec.md": [27, 28, 26, 27],
        "trt852_qdq_yolo_verbose.log": [86],
    }
    for name, counts in builds.items():
        assert [len(b.layers) for b in read_build_log(artefacts / "logs" / name).builds] == counts


def test_versions_are_those_of_the_header_not_of_the_file_name(artefacts: Path) -> None:
    versions = {
        "cookbook84_trtexec_result-FP16.txt": "8.0.3",
        "cookbook1016_07-Tool_trtexec_result-02.log": "10.16.1",
        "cookbook1016_04-Feature_ProfilingVerbosity_log-main.py.log": "10.16.2",
        "trt852_qdq_yolo_verbose.log": "8.5.2",
        "trtrtx17_resnet18_fp32_then_qdq.log": "RTX",
    }
    for name, version in versions.items():
        assert read_build_log(artefacts / "logs" / name).version == version
