"""The models that `auto` judged best, kept for the stage that would make the same ones again."""

import json
import shutil
from pathlib import Path

import onnx

from quantbench.atomic import write_json
from quantbench.core.quantize import save_pair
from quantbench.images.source import file_sha256

_FOLDER, _KEY = "judged", "judged.json"


def keep(state: Path, model: onnx.ModelProto, key: str, *, affine: bool) -> None:
    """Keep the pair of files of the Q/DQ `model` in `state` under `key`, the digest of all that it was made from."""
    (state / _KEY).unlink(missing_ok=True)
    shutil.rmtree(state / _FOLDER, ignore_errors=True)
    (state / _FOLDER).mkdir(parents=True)
    save_pair(model, state / _FOLDER, affine=affine)
    write_json(state / _KEY, {"key": key, "files": {file.name: file_sha256(file) for file in _files(state)}})


def take(state: Path, key: str, out: Path) -> bool:
    """Move the files of `key` into `out`; False where they are not there as they were written."""
    try:
        known = json.loads((state / _KEY).read_text(encoding="utf-8"))
        if known["key"] != key or known["files"] != {file.name: file_sha256(file) for file in _files(state)}:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    for file in _files(state):
        shutil.copyfile(file, out / file.name)
    (state / _KEY).unlink()
    shutil.rmtree(state / _FOLDER)
    return True


def _files(state: Path) -> list[Path]:
    return sorted((state / _FOLDER).iterdir())
