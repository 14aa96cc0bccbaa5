"""The report's page: verdicts by thresholds, its data, and what a reader can do with it in a browser."""

import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quantbench.records.evaluation import Measured, Outputs
from quantbench.report import html
from quantbench.report.decision import Decision
from quantbench.report.figures import Latency
from quantbench.report.leads import Lead
from quantbench.report.page.data import Depth, LayerRow, Milliseconds, PageData, Point, RangeRow, Region
from quantbench.report.verdict import Command, Thresholds, Verdict, judge
from quantbench.report.words import moment
from tests.report.chromium import CHROMIUM, visit

COMMAND = Command("m.onnx", "imgs", "minmax", False, "run/model.qdq.onnx")


def share(value: float, low: float | None = None, high: float | None = None) -> Measured:
    return Measured(value, value if low is None else low, value if high is None else high, 300)


def times(plain: float, int8: float) -> list[Latency]:
    return [Latency("orin", "FP16", plain, plain, plain, "predicted"), Latency("orin", "INT8", int8, int8, int8,
            "predicted")]  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "latencies", "level", "words"),
    [
        (Outputs(agreement=share(0.99)), times(2, 1), "green", "Ship INT8"),
        (Outputs(agreement=share(0.99)), times(1.04, 1), "amber", "Stay with FP16: INT8 is not worth it"),
        (Outputs(agreement=share(0.95)), times(2, 1), "amber", "Mix"),
        (Outputs(agreement=share(0.5)), times(2, 1), "red", "Do not ship"),
        (Outputs(sqnr_db=Measured(2.6, 2, 3, 60)), [], "red", "Do not ship"),  # BlazeFace, once five green tiles
        (Outputs(sqnr_db=Measured(25, 24, 26, 60)), [], "green", "once it is known to be faster"),
        # Boxes are all found again, with scores that are ruined.
        (Outputs(boxes_kept=share(0.99), sqnr_db=Measured(7.9, 7, 8, 60)), times(2, 1), "amber", "Mix"),
        (Outputs(), times(2, 1), "red", "Nothing measured"),
    ],
)  # fmt: skip
def test_verdicts(outputs: Outputs, latencies: list[Latency], level: str, words: str) -> None:
    verdict = judge(outputs, latencies, "orin" if latencies else "", COMMAND)
    assert (verdict.level, words in verdict.headline) == (level, True), verdict
    # What is to be typed next can be pasted as it is.
    typed = shlex.split(verdict.next_step, comments=True)
    assert not typed or typed[0] == "quantbench"
    assert not any("(" in word for word in typed)


def test_labels_count_more_than_agreement() -> None:
    change = Measured(-0.001, -0.004, 0.002, 300)
    outputs = Outputs(top1_float=share(0.75), top1_int8=share(0.749), top1_change=change, agreement=share(0.93))
    verdict = judge(outputs, times(2, 1), "orin", COMMAND)
    assert verdict.level == "green"
    assert "which may be chance" in verdict.sentence
    assert "2.00 x the speed of FP16 on orin (2 → 1 ms, predicted)" in verdict.sentence
    wide = [Latency("orin", what, ms, 0.5, 3, "predicted") for what, ms in (("FP16", 2), ("INT8", 1))]
    assert "predicted; their intervals overlap" in judge(outputs, wide, "orin", COMMAND).sentence
    assert "overlap" not in verdict.sentence
    strict = judge(outputs, times(2, 1), "orin", COMMAND, Thresholds(good_drop=0.05))
    assert strict.level == "amber"
    assert strict.next_step == "quantbench ptq m.onnx --calib-dir imgs --calibrator mse"


def decision(layers: int = 40, runs: int = 3) -> Decision:
    """A page with everything on it, whose names try to break out of it."""
    rows = tuple(
        LayerRow(id=i, name=f"w{i} + conv{i}", label=f"conv{i}</script><b>" if i != 7 else "m" * 60,
                 nodes=(f"conv{i}",), takes="INT8",
                 type="CaskConvolution" if i % 7 else "Reformat", gives="INT8" if i % 5 else "FP16",
                 bytes=1000 * (layers - i), ms={"orin": 0.01 * i, "a100": 0.001 * i}, sqnr=30 - 0.5 * (i % 37),
                 cost=0.1, why="" if i % 5 else "its output is one of the network's", reformat=not i % 7)
        for i in range(layers)
    )  # fmt: skip
    points = tuple(
        Point(f"runs/r{r}", what, 90 + r + (what == "FP16"), 88.0 + r, 94.0 + r,
              {"orin": Milliseconds(2.0 - 0.1 * r, 1.8, 2.2, "predicted"),
               "a100": Milliseconds(0.2 + 0.1 * r, 0.1, 0.4, "predicted")}, f"quantbench ptq r{r}")
        for r in range(runs) for what in ("INT8", "FP16")
    )  # fmt: skip
    data = PageData(
        "top-1", "%", ("orin", "a100"), points, rows,
        tuple((max(i - 1 - i % 3, 0), i, "INT8") for i in range(1, layers)),
        (Region("conv1", 0.2, {"orin": 0.1, "a100": 0.05}, "points"),),
        tuple(RangeRow(f"t{i}", 2.0, 4.0, 0.01, 0.2, tuple(range(1, 129)), "mse") for i in range(3)),
        tuple(Depth(f"conv{i}", 20.0 + i % 7, "Conv + Relu") for i in range(min(layers, 60))),
    )  # fmt: skip
    lead = Lead("A lead", "its evidence", "quantbench tune m.onnx", "measured")
    return Decision(Verdict("amber", "Mix", "top-1 74 % → 73 %", "quantbench tune"), (lead,), ("all is well",), data)


def write(path: Path, **given: int) -> Path:
    path.write_text(html.render("A & B <i>", "sub", [], decision(**given)), encoding="utf-8")
    return path


def test_the_page_stands_alone_and_is_small(tmp_path: Path) -> None:
    """Also over 50 runs and a network of 2,000 kernels."""
    page = write(tmp_path / "big.html", layers=2000, runs=50)
    assert page.stat().st_size < 3_000_000
    text = page.read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|url\(|@import""", own)
    # What stands in the data cannot end it.
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert json.loads(found[1])["layers"][1]["label"] == "conv1</script><b>"


def test_labels_and_regions_for_readers_without_eyes(tmp_path: Path) -> None:
    """Each control has a name, each plot and the network say where the same stands as a table."""

    class Names(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.labelled: set[str] = set()
            self.controls: list[dict[str, str | None]] = []
            self.plots: list[dict[str, str | None]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "label":
                self.labelled.add(str(given["for"]))
            if tag in ("input", "select"):
                self.controls.append(given)
            if given.get("role") in ("img", "application"):
                self.plots.append(given)

    names = Names()
    names.feed(write(tmp_path / "p.html").read_text(encoding="utf-8"))
    assert {str(control["id"]) for control in names.controls} <= names.labelled
    assert len(names.plots) == 5
    assert all(plot["aria-label"] for plot in names.plots)


def test_a_column_that_says_nothing_is_left_out_and_sentences_begin_as_such(tmp_path: Path) -> None:
    page = write(tmp_path / "p.html").read_text(encoding="utf-8")
    assert "Why float" in page
    made = decision()
    rows = tuple(replace(row, why="") for row in made.data.layers)
    page = html.render("t", "s", (), replace(made, data=replace(made.data, layers=rows)))
    assert "Why float" not in page
    outputs = Outputs(agreement=share(0.99))
    assert judge(outputs, times(2, 1), "orin", COMMAND).sentence.startswith("Same answer as FP32")
    scored = Outputs(map_float=share(0.5), map_int8=share(0.49), map_change=share(-0.01))
    assert judge(scored, times(2, 1), "orin", COMMAND).sentence.startswith("mAP50-95")
    close = [Latency("orin", what, ms, 0.5, 3, "predicted") for what, ms in (("FP16", 1), ("INT8", 1))]
    verdict = judge(outputs, close, "orin", COMMAND)  # of which device it speaks, and how sure that is
    assert verdict.headline == "Stay with FP16: INT8 is not worth it on orin"
    assert verdict.next_step == "quantbench predict run/model.qdq.onnx --device orin  # what INT8 loses time on"
    assert "not worth it under 1.05 x; their intervals overlap" in verdict.sentence
    assert moment("2026-11-26T20:24:19+00:00") == "2026-11-26 20:24 UTC"


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")

ACTIONS = """
const all = where => [...document.querySelectorAll(where)];
const drawn = all(".plot").map(p => p.id + ":" + (p.querySelectorAll("svg path").length > 3));
const spot = () => all("#pareto svg path[transform]").map(p => p.getAttribute("transform")).join();
const before = spot();
const device = document.getElementById("device"); device.value = "a100"; device.dispatchEvent(new Event("change"));
await pause();
const moved = spot() !== before;
const first = () => document.querySelector("#layers tbody tr td").textContent;
const heads = all("#layers th");
const bytes = heads.find(h => h.textContent === "Bytes"); bytes.querySelector("button").click();
const up = first(); bytes.querySelector("button").click(); const down = first();
const find = document.getElementById("find"); find.value = "conv17"; find.dispatchEvent(new Event("input"));
const count = document.getElementById("found").textContent;
const node = document.getElementById("node"); node.value = "conv23"; node.dispatchEvent(new Event("change"));
const chosen = document.getElementById("chosen").textContent;
const box = document.querySelector("#network .chosen");
const room = text => text.parentNode.querySelector("rect").getBBox().width - 8;
const over = all("#network text").filter(text => text.getBBox().width > room(text)).length;
const cut = all("code span").filter(word => word.getClientRects().length > 1).length;
const wide = document.documentElement.scrollWidth <= window.innerWidth;
return { drawn, moved, up, down, count, chosen, picked: box && box.dataset.id, sort: bytes.getAttribute("aria-sort"),
  boxes: all("#network g[data-id]").length, over, cut, words: all("code span").length, wide,
  ms: document.querySelector("#layers .ms").textContent };
"""


@needs_chromium
@pytest.mark.parametrize("size", ["1200,900", "400,800"])
def test_what_a_reader_can_do(tmp_path: Path, size: str) -> None:
    seen = visit(write(tmp_path / "p.html"), ACTIONS, tmp_path, size)
    assert seen["faults"] == []
    assert seen["requests"] == []
    found = seen["found"]
    assert found["drawn"] == ["pareto:true", "regions:true", "depth:true", "histogram:true"]
    assert found["moved"]
    assert (found["up"], found["down"]) == ("conv39</script><b>", "conv0</script><b>")
    assert found["sort"] == "descending"
    assert found["count"] == "1 of 40"
    assert "conv23" in found["chosen"]
    assert found["picked"] == "23"
    assert found["boxes"] == 40
    assert found["over"] == 0, "names are wider than their boxes"
    assert (found["cut"], found["words"] > 5) == (0, True), "lines break within words of commands"
    assert found["wide"], "the page scrolls sideways"


PRINTED = """
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const text = () => document.querySelector("#depth svg text").getAttribute("fill");
const dark = ink(), before = text(), width = document.querySelector("#pareto svg").clientWidth;
window.dispatchEvent(new Event("beforeprint")); await pause();
const ids = new Set([...document.querySelectorAll("#printed g[data-id]")].map(box => box.dataset.id));
const paper = { ink: ink(), text: text() !== before, width: document.querySelector("#pareto svg").clientWidth,
  boxes: ids.size, pages: document.querySelectorAll("#printed > div").length,
  open: document.querySelector("details").open };
window.dispatchEvent(new Event("afterprint")); await pause();
const after = [ink() === dark, text() === before, document.querySelector("#pareto svg").clientWidth === width,
  document.querySelector("#printed").children.length === 0, !document.querySelector("details").open];
return { dark, paper, after, drawn: document.querySelectorAll("#network g[data-id]").length };
"""


@needs_chromium
def test_a_deep_network_is_drawn_and_printed_light(tmp_path: Path) -> None:
    """In the dark theme: on paper it is light, plots are as wide as a page, the network stands in columns, whole."""
    page = write(tmp_path / "p.html", layers=300, runs=50)
    text = page.read_text(encoding="utf-8")
    assert text.count("@media screen and (prefers-color-scheme: dark)") == 1
    page.write_text(text.replace("@media screen and (prefers-color-scheme: dark)", "@media screen"), encoding="utf-8")
    seen = visit(page, PRINTED, tmp_path)
    assert (seen["faults"], seen["requests"]) == ([], [])
    found = seen["found"]
    assert found["drawn"] == 300
    assert found["dark"] == "#e6eaf0"
    assert found["paper"] == {"ink": "#1b2330", "text": True, "width": 680, "boxes": 300, "pages": 3, "open": True}
    assert all(found["after"]), found["after"]
