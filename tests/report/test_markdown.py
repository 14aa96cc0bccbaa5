"""Names in report.md stay text, read by a CommonMark parser with GitHub's tables and strikethrough."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from quantbench.report.blocks import Cards, Section, Table, Text
from quantbench.report.markdown import escaped, render
from quantbench.terminal import one_line
from tests.ptq.small_run import write_data, write_model

HOSTILE = (
    "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "![i](http:)", "`code`", "# head", "a | b",
    "**bold** _it_ __b__ ~~gone~~", "&lt;script&gt;", "two\n# lines", "\\", "http://x.y", "www.x.y", "1. list",
    "- list", "> quote", "---", "<https://x.y>", "[a]: http", "$x$", "\x1b]0;owned\x07", "======", "]", "\u202eevil",
)  # fmt: skip
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from walk(token.children or [])


def inline(text: str) -> list[Token]:
    """Tokens of the text in a document."""
    return [token for token in walk(PARSER.parse(text)) if token.children is None and token.type != "inline"]


def shown(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "text_special"))


def squeezed(text: str) -> str:
    return re.sub(r" +", " ", text.strip())


@settings(max_examples=60)
@given(st.text(alphabet="#*_`[]()<>!|~\\&:/.$+-=1a0b xw\n\t'\"@^{}", max_size=30) | st.text(max_size=20))
def test_any_text_is_shown_as_it_is_and_is_nothing_else(text: str) -> None:
    kinds = {"paragraph_open", "paragraph_close", "text", "text_special"}
    document = render("t", "s", [Section("", (Text(text),))])
    tokens = PARSER.parse(document)[6:]
    found = list(walk([t for t in tokens if t.type != "inline"] + [c for t in tokens for c in t.children or []]))
    assert {token.type for token in found} <= kinds
    assert squeezed(shown(found)) == squeezed(one_line(text.strip()))


@settings(max_examples=40)
@given(st.text(alphabet="`a \\<|", max_size=12))
def test_a_command_is_one_code_span(command: str) -> None:
    document = render("t", "s", [Section("", (Text("Next:", code=command),))])
    spans = [token for token in walk(PARSER.parse(document)) if token.type == "code_inline"]
    if command.strip():
        assert [squeezed(span.content) for span in spans] == [squeezed(command)]


@pytest.mark.parametrize("name", HOSTILE)
def test_every_block_takes_a_hostile_name(name: str) -> None:
    sections = [
        Section(name, (Text(name, "note"), Cards(((name, name, name),)), Table((name, name), ((name, name),), name)))
    ]
    tokens = list(walk(PARSER.parse(render(name, name, sections))))
    assert {t.type for t in tokens}.isdisjoint({"html_block", "html_inline", "link_open", "image", "code_inline",
                                                "s_open", "em_open", "code_block", "fence"})  # fmt: skip
    assert [t.tag for t in tokens if t.type == "heading_open"] == ["h1", "h2"]
    assert sum(t.type == "td_open" for t in tokens) == 2
    assert sum(t.type == "strong_open" for t in tokens) == 1
    assert len([t for t in tokens if squeezed(one_line(name)) == squeezed(shown(t.children or []))]) >= 5


def test_ordinary_names_stay_readable() -> None:
    for text in ("conv_1.weight", "/model.22/cv2.0/Conv_output_0", "[1, 3, 224, 224]", "a < b > c", "97.3 % (95 to 99)",
                 "runs/m-minmax/model.qdq.onnx", "Q & DQ", "it's 5 - 3"):  # fmt: skip
        assert escaped(text) == text


def test_a_real_run_over_hostile_names(cli, monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / "<b>[x](y) & `z`"
    folder.mkdir()
    model = onnx.load(write_model(folder / "m.onnx"))
    for node, name in zip(model.graph.node, HOSTILE, strict=False):
        node.name = f"{name}{node.name}"
        node.output[0] = node.output[0] if node.output[0] == "y" else f"{name}{node.output[0]}"
    renamed = {name: f"{hostile}{name}" for name, hostile in zip("abcdef", HOSTILE, strict=False)}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    path = folder / "<svg onload=alert(1)>[m](j:k)|.onnx"
    onnx.save(model, path)
    data = write_data(folder / "**data**")
    out = folder / "# run"
    code, _, error = cli("ptq", path, "--calib-data", data, "--out", out, "--no-compile", "--threads", 1)
    assert code == 0, error
    text = (out / "report.md").read_text(encoding="utf-8")
    tokens = list(walk(PARSER.parse(text)))
    assert {t.type for t in tokens}.isdisjoint({"html_block", "html_inline", "link_open", "image", "s_open", "em_open"})
    assert {t.tag for t in tokens if t.type == "heading_open"} == {"h1", "h2"}
    assert sum(t.tag == "h1" for t in tokens if t.type == "heading_open") == 1
    assert "<svg onload=alert(1)>[m](j:k)|" in shown(tokens)
    for name in (HOSTILE[0], HOSTILE[2], HOSTILE[6]):  # those of layers with weights
        assert name in shown(tokens)
    assert "\x1b" not in text
    # A command to type is one word a name.
    (command,) = re.findall(r"^Next: `+(.*?)`+$", text, re.MULTILINE)
    program, name, file, *device = shlex.split(command, comments=True)
    assert (program, name, Path(file)) == ("quantbench", "predict", out / "model.qdq.onnx")
    assert device in ([], ["--device", "a100"])
