"""The run folder: the only state of a run. Stages write into it and are skipped while their inputs are unchanged."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quantbench.atomic import write_json
from quantbench.errors import QuantbenchError

STATE = ".quantbench"
_IDENTITY = "identity.json"
_STAGES = "stages.json"


def digest(value: Any) -> str:
    """SHA-256 of plain data, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class RunFolder:
    """A folder that belongs to one run (one command on one model). Created on first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / STATE
        self._made = False

    def claim(self, identity: dict[str, str], *, overwrite: bool = False) -> None:
        """Take the folder for the run `identity`, or raise QuantbenchError and touch nothing.

        Free are: a folder that does not exist, an empty one, and one of the same run (then finished stages are
        reused). `overwrite` empties a folder of another run; a folder that quantbench did not make is never emptied.
        """
        if self.path.exists() and not self.path.is_dir():
            raise QuantbenchError(f"output {self.path} is a file; choose another --out")
        known = self._read(_IDENTITY)
        if known is None and self.path.is_dir() and any(self.path.iterdir()):
            raise QuantbenchError(f"output folder {self.path} is not empty and no run folder; choose another --out")
        if known is not None and known != identity:
            what = " ".join(f"{key} {known.get(key)}" for key in ("command", "model"))
            if not overwrite:
                raise QuantbenchError(
                    f"output folder {self.path} holds another run ({what}); choose another --out, or --overwrite"
                )
            shutil.rmtree(self.path)
        if self._read(_IDENTITY) != identity:
            self._made = not self.path.exists()
            write_json(self.state / _IDENTITY, identity)

    def abandon(self) -> None:
        """After a fault of the input: remove the folder if this run made it and no stage of it is done."""
        if self._made and not (self.state / _STAGES).exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def stage(self, name: str, inputs: Any, outputs: Sequence[str], work: Callable[[], None]) -> bool:
        """Do `work` unless it was done for the same `inputs` and its `outputs` are still there. True when it ran."""
        key = digest(inputs)
        stages = self._read(_STAGES) or {}
        if stages.get(name) == key and all((self.path / output).exists() for output in outputs):
            return False
        work()
        stages = self._read(_STAGES) or {}
        stages[name] = key
        write_json(self.state / _STAGES, stages)
        return True

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            data = json.loads((self.state / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None
