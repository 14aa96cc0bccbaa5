"""The run folder: the only state of a run. Stages write into it and are skipped while their inputs are unchanged.

Outputs of a stage are made in `.quantbench/new`, and a note of what is to be moved, `commit.json`, is written before
the first is; who takes the folder after a kill finishes the moves. So a stage is done or it is not.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from quantbench.atomic import alive, sync, write_json
from quantbench.errors import QuantbenchError
from quantbench.provenance import command_line, provenance, utc
from quantbench.records.facts import FileName, Output, StageRecord
from quantbench.records.record import Record
from quantbench.stage import Inputs, Stage
from quantbench.text_file import read_object

STATE = ".quantbench"
# Parts of a calibration that several processes count; each says itself what it is of.
PIECES = "pieces"
# Put together from the records of all stages, so that none of it may outlive one.
SUMMARIES = ("run.json", "report.md", "report.html")
_IDENTITY, _STAGES, _COMMIT, _NEW, _LOCK, _HOLDER = (
    "identity.json", "stages.json", "commit.json", "new", "lock", "holder.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose folder it is: one command on one model (by the hash of its content); `model` as the user named it."""

    command: str
    model: str
    sha256: str


class _Stages(Record):
    stages: dict[str, StageRecord] = Field(default_factory=dict)


class _Holder(Record):
    pid: int
    host: str
    since: str
    command: str


class _Commit(Record):
    record: StageRecord
    dropped: tuple[str, ...]
    files: tuple[FileName, ...]
    keep: tuple[FileName, ...]


class RunFolder:
    """A folder that belongs to one run. Take it with `held`; created on first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / STATE
        self._made = False

    @contextlib.contextmanager
    def held(self, identity: Identity, *, overwrite: bool = False) -> Iterator["RunFolder"]:
        """Hold the folder for the run `identity`, or raise QuantbenchError and touch nothing.

        Free are: a folder that does not exist, an empty one, and one of the same run (then finished stages are
        reused). `overwrite` removes what an earlier run wrote, whichever it was; a folder that quantbench did not make
        is never emptied. While one process holds it, another is refused. After a fault of the input a folder that was
        made for this call is removed, unless something is in it that took time.
        """
        self.refuse(identity, overwrite=overwrite)
        self._made = not self.path.exists()
        above = [folder for folder in self.path.parents if not folder.exists()]
        with self._locked():
            self.refuse(identity, overwrite=overwrite)
            self._take(identity, overwrite)
            try:
                yield self
            except (QuantbenchError, OSError):
                if self._made and self._bare():
                    shutil.rmtree(self.path, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        for folder in above:
                            folder.rmdir()
                raise

    def _take(self, identity: Identity, overwrite: bool) -> None:
        try:
            if overwrite:
                self._empty()
            self._tidy()
        except OSError as error:
            raise QuantbenchError(
                f"cannot write {error.filename or self.path}: {error.strerror or error}; choose another --out"
            ) from error
        if self._known_identity() != identity:
            write_json(self.state / _IDENTITY, {name: getattr(identity, name) for name in identity.__slots__})

    def is_held(self) -> bool:
        """Whether a process says that it holds the folder and, where it is one of this machine, is still there."""
        try:
            holder = _Holder.load(self.state / _HOLDER)
        except QuantbenchError:
            return False
        return holder.host != platform.node() or alive(holder.pid)

    def run(
        self, stage: Stage[Inputs], *, again: bool = False, keep: tuple[str, ...] = (), before: float = 0.0
    ) -> StageRecord:
        """Do the stage unless (and not `again`) it was done with the same key and its outputs are whole; its record.

        Where new outputs differ from those of before, stages that read them are forgotten, with their outputs. `keep`
        names outputs of the stage's last time that this time only reads. `before`: seconds of its work that were spent
        already, beside other stages.
        """
        known = self.records().get(stage.name)
        if not again and known is not None and self._done(stage, known):
            return known
        new = self.state / _NEW
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        start = time.perf_counter() - before
        stage.work(stage.inputs, new)
        files = sorted(path.name for path in new.iterdir() if path.is_file() and not path.name.startswith("."))
        record = StageRecord(
            name=stage.name,
            key=stage.key,
            inputs=stage.facts(),
            after=stage.after,
            outputs=tuple(_output(new / name) for name in files),
            provenance=provenance(time.perf_counter() - start, stage.versions),
        )
        self._commit(record, known, keep)
        return record

    def done(self, stage: Stage[Inputs]) -> bool:
        """Whether the stage was done with the same key and its outputs are whole."""
        known = self.records().get(stage.name)
        return known is not None and self._done(stage, known)

    def _done(self, stage: Stage[Inputs], known: StageRecord) -> bool:
        return known.key == stage.key and self._whole(known)

    def forget(self, name: str) -> None:
        """Remove a stage's record and outputs, and those of the stages that read them."""
        kept = self.records()
        gone = [kept.pop(stage) for stage in (name, *self._readers(name)) if stage in kept]
        if gone:
            self._drop_files(file.path for record in gone for file in record.outputs)
            _Stages(stages=kept).save(self.state / _STAGES)

    def records(self) -> dict[str, StageRecord]:
        """Records of the finished stages, by name."""
        path = self.state / _STAGES
        if not path.is_file():
            return {}
        try:
            return _Stages.load(path).stages
        except QuantbenchError:
            return {}  # of another version, or damaged: everything is done anew

    def _commit(self, record: StageRecord, known: StageRecord | None, keep: tuple[str, ...]) -> None:
        same = known is not None and known.outputs == record.outputs
        dropped = () if same else tuple(self._readers(record.name))
        files = tuple(output.path for output in record.outputs)
        commit = _Commit(record=record, dropped=dropped, files=files, keep=keep)
        for name in commit.files:
            sync(self.state / _NEW / name)
        commit.save(self.state / _COMMIT)
        self._finish(commit)

    def _finish(self, commit: _Commit) -> None:
        """Carry out a commit; every step may have been done already."""
        records = self.records()
        old = [records.pop(name) for name in (commit.record.name, *commit.dropped) if name in records]
        kept = {file.path for record in records.values() for file in record.outputs}.union(commit.files, commit.keep)
        self._drop_files(file.path for record in old for file in record.outputs if file.path not in kept)
        for name in commit.files:
            if (self.state / _NEW / name).exists():
                os.replace(self.state / _NEW / name, self.path / name)
        sync(self.path)
        _Stages(stages={**records, commit.record.name: commit.record}).save(self.state / _STAGES)
        (self.state / _COMMIT).unlink(missing_ok=True)
        shutil.rmtree(self.state / _NEW, ignore_errors=True)

    def _drop_files(self, names: Any) -> None:
        for name in (*SUMMARIES, *names):
            (self.path / name).unlink(missing_ok=True)

    def _readers(self, name: str) -> list[str]:
        """Names of stages that read the outputs of `name`, directly or through others."""
        found = [name]
        records = self.records()
        for reader in found:
            found += [r.name for r in records.values() if reader in r.after and r.name not in found]
        return found[1:]

    def _whole(self, record: StageRecord) -> bool:
        """Whether all outputs are there as they were written: size and SHA-256."""
        for output in record.outputs:
            path = self.path / output.path
            if not path.is_file() or path.stat().st_size != output.bytes or _output(path) != output:
                return False
        return True

    def refuse(self, identity: Identity, *, overwrite: bool) -> None:
        """Raise QuantbenchError where the folder is another run's, or none of quantbench's."""
        if self.path.exists() and not self.path.is_dir():
            raise QuantbenchError(f"output {self.path} is a file; choose another --out")
        self._refuse_links()
        known = self._known_identity()
        if known is None and self.path.is_dir() and any(entry.name != STATE for entry in self.path.iterdir()):
            raise QuantbenchError(f"output folder {self.path} is not empty and no run folder; choose another --out")
        if known is not None and not overwrite and (known.command, known.sha256) != (identity.command, identity.sha256):
            raise QuantbenchError(
                f"output folder {self.path} holds another run (command {known.command} model {known.model}); choose "
                f"another --out, or --overwrite"
            )

    def _refuse_links(self) -> None:
        """quantbench makes no links; one in a folder that somebody else made would have it write elsewhere."""
        if not self.path.is_dir():
            return
        try:
            inside = list(self.state.iterdir()) if self.state.is_dir() else []
        except OSError as error:
            raise QuantbenchError(f"cannot read {self.state}: {error.strerror}; choose another --out") from error
        for entry in (self.state, *inside, *(self.path / name for name in SUMMARIES)):
            if entry.is_symlink():
                raise QuantbenchError(
                    f"{entry} is a link, which quantbench does not make; remove it, or choose another --out"
                )

    def _known_identity(self) -> Identity | None:
        try:
            return Identity(**read_object(self.state / _IDENTITY))
        except (QuantbenchError, TypeError):
            return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        try:
            self.state.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(self.state / _LOCK))
            lock.acquire(timeout=0)
        except Timeout as error:
            raise QuantbenchError(_in_use(self.path, self._holder())) from error
        except OSError as error:
            raise QuantbenchError(
                f"cannot write {self.path}: {error.strerror or error}; choose another --out"
            ) from error
        try:
            holder = _Holder(pid=os.getpid(), host=platform.node(), since=utc(), command=command_line())
            holder.save(self.state / _HOLDER)
            yield
        finally:
            (self.state / _HOLDER).unlink(missing_ok=True)
            lock.release()

    def _holder(self) -> _Holder | None:
        """Who holds the folder; who has taken it this very moment is about to write it down."""
        for _ in range(10):
            with contextlib.suppress(QuantbenchError):
                return _Holder.load(self.state / _HOLDER)
            time.sleep(0.02)
        return None

    def _bare(self) -> bool:
        """Whether nothing that took time was made: no output, no part of a calibration, no epoch of a training."""
        visible = [entry for entry in self.path.iterdir() if entry.name != STATE]
        kept = [entry for entry in self.state.iterdir() if entry.name not in (_IDENTITY, _LOCK, _HOLDER, _NEW)]
        return not visible and not kept

    def _tidy(self) -> None:
        """Finish a commit that a kill cut off, and remove what a killed process left half-written."""
        if (self.state / _COMMIT).exists():
            with contextlib.suppress(QuantbenchError):
                self._finish(_Commit.load(self.state / _COMMIT))
        (self.state / _COMMIT).unlink(missing_ok=True)
        shutil.rmtree(self.state / _NEW, ignore_errors=True)
        for folder in (self.path, self.state):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def _empty(self) -> None:
        """Remove what quantbench wrote: outputs of stages, summaries, its state; nothing that others put there."""
        self._drop_files(file.path for record in self.records().values() for file in record.outputs)
        for entry in self.state.iterdir():
            if entry.name in (_LOCK, _HOLDER, _IDENTITY, PIECES):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _in_use(path: Path, holder: _Holder | None) -> str:
    who = "another process"
    if holder is not None:
        who = f"process {holder.pid} on {holder.host} since {holder.since} ({holder.command})"
    return f"run folder {path} is in use by {who}; wait for it to end, or choose another --out"


def _output(path: Path) -> Output:
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            hashed.update(chunk)
    return Output(path=path.name, sha256=hashed.hexdigest(), bytes=path.stat().st_size)
