"""`quantbench tactics`: each kernel that a log says was timed is in the table once, the chosen one is the log's."""

import json
import re
from pathlib import Path

import pytest

from quantbench.engines.base import BuildOptions
from quantbench.engines.tactic_choice import is_timing_cache, tactic_rules
from quantbench.errors import QuantbenchError
from quantbench.inspection.logs.tactic_table import read_tactics, replay_table

LOGS = Path(__file__).parents[1] / "data" / "artefacts" / "logs"
SHARED = Path(__file__).parents[3] / "shared" / "artefacts" / "logs"
YOLO = LOGS / "trt852_qdq_yolo_verbose.log"
CENTERPOINT = SHARED / "centerpoint_8503_verbose.log"
_TIMED = re.compile(r"(?<!Fastest )Tactic: (?:0x[0-9a-f]+|-?\d+),? Time: ", re.IGNORECASE)


@pytest.mark.parametrize(
    ("log", "timed"),
    [
        (YOLO, 2548), (LOGS / "cookbook1016_04-Feature_ProfilingVerbosity_log-main.py.log", 1704),
        (LOGS / "cookbook1016_07-Tool_trtexec_result-02.log", 1361), (CENTERPOINT, 5506),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)  # fmt: skip
def test_kernels_are_counted_as_grep_counts_them(log: Path, timed: int) -> None:
    if not log.exists():
        pytest.skip("the log lies beside the checkout, not in it")
    text = log.read_text(encoding="utf-8", errors="replace")
    table = read_tactics(log)
    assert table.timed == len(_TIMED.findall(text)) == timed
    assert sum(1 for group in table.groups if group.chosen[1]) == len(_chosen_lines(text))


def _chosen_lines(text: str) -> list[str]:
    return [
        line for line in text.split("\n") if re.search(r"Chose Runner Type: \S+ Tactic: (?!0xd15ea5edd15ea5ed)", line)
    ]


def test_the_chosen_kernel_is_the_logs() -> None:
    text = YOLO.read_text(encoding="utf-8", errors="replace").split("\n")
    checked = 0
    for group in read_tactics(YOLO).groups:
        if not group.chosen[1] or group.best is None:
            continue
        after = "\n".join(text[group.timings[-1].line - 1 : group.timings[-1].line + 8])
        assert group.chosen[1] in after
        assert group.best.tactic == group.chosen[1]
        checked += 1
    assert checked > 100


def test_a_log_is_replayed_by_layer() -> None:
    table = read_tactics(YOLO)
    replay = replay_table(table)
    assert len(replay) == 86
    rules = tactic_rules(BuildOptions(replay=YOLO))
    assert rules is not None
    layer, tactics = next(iter(replay.items()))
    wanted = next(iter(tactics))
    assert rules.allowed(layer, [1, wanted, 2]) == [1]
    assert rules.allowed(layer, [1, 2]) == [0, 1]
    assert rules.notes[-1] == f"1 layers do not know the kernel that was wanted: {layer}"
    kernel = next(iter(rules.names.values()))
    named = tactic_rules(BuildOptions(replay=YOLO, forbid_tactics=(kernel,)))
    number = next(iter(rules.names))
    assert named is not None
    assert named.allowed("another layer", [number, 5]) == [1]


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    assert tactic_rules(BuildOptions()) is None
    assert is_timing_cache(Path("a.timing"))
    (tmp_path / "b.log").write_text("[I] nothing here\n")
    with pytest.raises(QuantbenchError, match="tells no kernel of any layer"):
        tactic_rules(BuildOptions(replay=tmp_path / "b.log"))


def test_the_command_lists_layers_and_kernels(cli) -> None:
    code, out, err = cli("tactics", YOLO)
    assert code == 0, err
    assert out.startswith("2548 kernels timed: ")
    code, out, err = cli("tactics", YOLO, "--json")
    data = json.loads(out)
    assert data["timed"] == 2548
    layer = next(g["layer"] for g in data["groups"] if " + " in g["layer"] and len(g["kernels"]) > 3)
    code, out, err = cli("tactics", YOLO, "--layer", layer.split(" + ")[-1], "--precision", "int8")
    assert code == 0, err
    assert "chosen" in out
    for words, message in (
        ((YOLO, "--layer", "none"), "has kernels that fit"),
        ((LOGS / "jetson_dla_tutorial_excerpts.md",), "no timings"),
    ):  # fmt: skip
        code, _, err = cli("tactics", *words)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err
