"""The folder that bad commands run in, and one run of them: what they say, how long they take, what they leave."""

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from PIL import Image

from quantbench.load_object import load_object
from tests.cli.bad_inputs.gallery import make_gallery, with_ending
from tests.cli.bad_inputs.models import write_models
from tests.images.tars import HOSTILE
from tests.ptq.small_run import run as small_run

_NET = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
_PLACE = re.compile(r"\{x\}(\.\w+|)")
_OF_THE_PROCESS = ("quantbench-yolo-", "torchinductor_")
HANGS_AFTER = 60  # seconds on a loaded machine; what counts is processor time


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code, both streams (paths in the second from the root of the ground on), seconds of processor time, and the
    names of files that were not there before."""

    code: int
    out: str
    err: str
    seconds: float
    left: tuple[str, ...]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("quantbench: error: ")]


class Hangs(BaseException):
    """No command may take it for an error of its own."""


class Ground:
    """A gallery under `root`, with `words` for the command lines of the table."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.temporary = root, root / "out", root / "tmp"
        make_gallery(root)
        write_models(root / "models")
        (root / "tars").mkdir()
        for name, (data, _) in HOSTILE.items():
            (root / "tars" / f"{name}.tar").write_bytes(data)
        self.temporary.mkdir()
        good = root / "good"
        small_run(good, good / "run")
        (good / "m.engine").write_bytes(b"ptrt" + b"\0" * 100)
        torch.save({"w": torch.zeros(1)}, good / "w.pt")
        (good / "r.yaml").write_text("data: {preprocess: {exact: 8, scale: 0.01}}\n", encoding="utf-8")
        (good / "net.py").write_text(_NET, encoding="utf-8")
        torch.manual_seed(0)
        torch.save(load_object(f"{good / 'net.py'}:make")().state_dict(), good / "net.pt")
        (good / "typo.yaml").write_text("data: {preprocess: imagnet}\n", encoding="utf-8")
        (good / "net.yaml").write_text(
            f"architecture: {{factory: '{good}/net.py:make', input_shape: [3, 8, 8]}}\n"
            f"model: {good}/net.pt\nexport: {{exporter: legacy}}\n", encoding="utf-8",
        )  # fmt: skip
        for name in "abcd":
            (good / "pictures" / name).mkdir(parents=True)
            pixels = np.random.default_rng(ord(name)).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(good / "pictures" / name / "0.png")
        arrays = {
            "narrow": np.zeros((4, 3, 8, 7), np.float32), "grey": np.zeros((4, 1, 8, 8), np.float32),
            "whole": np.zeros((4, 3, 8, 8), np.int64), "words": np.array(["a", None], object),
            "nothing": np.zeros((0, 3, 8, 8), np.float32), "nan": np.full((4, 3, 8, 8), np.nan, np.float32),
        }  # fmt: skip
        for name, array in arrays.items():
            (good / name).mkdir()
            np.save(good / name / "0.npy", array)
        run = good / "run"
        self.words = {
            "good": good / "m.onnx", "data": good / "data", "cache": run / "calibration.cache", "run": run,
            "qdq": run / "model.qdq.onnx", "engine": good / "m.engine", "checkpoint": good / "w.pt",
            "recipe": good / "r.yaml", "pictures": good / "pictures", "array": good / "data" / "0.npy",
            "net": good / "net.yaml", "typo": good / "typo.yaml", **{name: good / name for name in arrays},
        }  # fmt: skip

    def arguments(self, command: str, file: str = "") -> list[str]:
        """The words of a command line of the table."""
        command = _PLACE.sub(lambda found: str(with_ending(self.root, file, found[1])), command)
        return [word.format(out=self.out, **self.words) for word in command.split(" ")]

    def run(self, arguments: list[str]) -> Outcome:
        """`quantbench` with `arguments` in this process."""
        from quantbench.cli.main import main

        self._clean()
        out, err, code = io.StringIO(), io.StringIO(), 0
        before = self._files()
        start = time.process_time()
        with _limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), self._here(arguments):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        seconds = time.process_time() - start
        said = err.getvalue().replace(str(self.root), "")
        return Outcome(code, out.getvalue(), said, seconds, tuple(sorted(self._files() - before)))

    def _clean(self) -> None:
        for folder in (self.out, self.temporary, self.root / "here"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def _files(self) -> set[str]:
        # Settings of ultralytics lie in a folder of the process, which takes it along when it ends; torch has its own.
        names = (os.path.join(path, name) for path, folders, files in os.walk(self.root) for name in folders + files)
        return {os.path.relpath(name, self.root) for name in names if not any(own in name for own in _OF_THE_PROCESS)}

    @contextlib.contextmanager
    def _here(self, arguments: list[str]) -> Iterator[None]:
        there, argv, temporary = os.getcwd(), sys.argv, tempfile.tempdir
        os.chdir(self.root / "here")
        sys.argv, tempfile.tempdir = ["quantbench", *arguments], str(self.temporary)
        try:
            yield
        finally:
            os.chdir(there)
            sys.argv, tempfile.tempdir = argv, temporary


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"over {HANGS_AFTER} s")

    usual = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS_AFTER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, usual)
