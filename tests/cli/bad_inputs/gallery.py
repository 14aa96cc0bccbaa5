"""Bad files of every kind, made once; a path's name says what is wrong with it."""

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
from onnx import TensorProto

from tests.ptq.small_run import write_data, write_model

_FLOAT = TensorProto.FLOAT


def make_gallery(folder: Path) -> None:
    """Fill `folder`: good files to go with bad ones, and files that are bad for every reader."""
    _good(folder)
    (folder / "folder").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "noise").write_bytes(np.random.default_rng(0).bytes(4096))
    (folder / "text").write_text("Lorem ipsum dolor sit amet.\n", encoding="utf-8")
    (folder / "latin1").write_bytes("Grüße aus Köln\n".encode("latin-1"))
    (folder / "nul").write_bytes(b"\0" * 4096)
    (folder / "deep").write_text('{"a":' * 5000 + "1" + "}" * 5000, encoding="utf-8")
    (folder / "list").write_text("[1, 2, 3]\n", encoding="utf-8")
    (folder / "object").write_text('{"surprise": {"\\ud800": [null, true, -1e400]}}\n', encoding="utf-8")
    (folder / "number").write_text("1" * 6000, encoding="utf-8")
    (folder / "gz").write_bytes(gzip.compress(b"")[:-6] + b"\0\1\2")
    (folder / "zip").write_bytes(b"PK\3\4" + b"\0" * 60)
    (folder / "pickle").write_bytes(pickle.dumps({"a": [1, 2]}))
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "line").write_bytes(b"x" * 400_000)
    (folder / ODD).write_text("x", encoding="utf-8")


# A name that would set the terminal's title and end the line.
ODD = "odd-\x1b]0;owned\x07\nname"
KINDS = (
    "missing", "folder", "empty", "noise", "text", "latin1", "nul", "deep", "list", "object", "number", "gz", "zip",
    "pickle", "pipe", "device", "dangling", "circle", "line", "odd",
)  # fmt: skip


def with_ending(folder: Path, kind: str, ending: str) -> Path:
    """A link `kind` + `ending` to the file of that kind, for readers that look at endings."""
    kind = ODD if kind == "odd" else kind
    path = folder / f"{kind}{ending}"
    if kind in ("circle", "missing") or not ending:
        return path if kind != "circle" else folder / "circle"
    if not os.path.lexists(path):
        path.symlink_to(folder / kind)
    return path


def _good(folder: Path) -> None:
    good = folder / "good"
    good.mkdir()
    write_model(good / "m.onnx")
    write_data(good / "data")
