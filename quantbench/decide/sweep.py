"""`quantbench sweep`: a grid over recipes, each trial a `quantbench ptq` of its own process, here or on a Ray cluster.

A trial is a recipe and a run folder, and nothing else, so it can run anywhere and again: what a lost machine was doing
is done by another, and the same command again does only what is missing.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import JsonValue

import quantbench
from quantbench.atomic import write_bytes, write_json, write_text
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.ptq.cache_policy import CACHE
from quantbench.ptq.on_ray import RETRIES, connected, require_ray
from quantbench.ptq.verify import outputs
from quantbench.records.run import load_run

SWEEP = "sweep.json"
# As `python -m quantbench`, but for the working folder, which may be a stranger's and hold a yaml.py.
_PROGRAM = """
import sys
sys.path, root = [part for part in sys.path if part], sys.argv.pop(1)
if root not in sys.path:
    sys.path.insert(0, root)
from quantbench.__main__ import main
from quantbench.text_file import read_object
main()
"""
_ROOT = str(Path(quantbench.__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True)
class SweepTrial:
    """One point of the grid: `name` of its folder, the `recipe` that it is (as run.json keeps it, without its folder),
    which values made it, and `arguments` that name its code once more on the trial's own command line."""

    name: str
    recipe: Mapping[str, JsonValue]
    values: Mapping[str, str]
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended: `fault` is its last words, "" where it is done; `files` what came from another machine."""

    name: str
    fault: str
    seconds: float
    files: Mapping[str, bytes]


def run_sweep(
    trials: Sequence[SweepTrial],
    folder: Path,
    progress: Progress,
    *,
    jobs: int = 1,
    ray: str = "",
    minutes: float | None = None,
    on_done: Callable[[list[Path]], None] | None = None,
) -> dict[str, str]:
    """Run what is not done yet; returns trial to fault ("" done, "not run" where the time was over).

    `on_done` gets the folders that are done, after each trial. Raises QuantbenchError where Ray is absent.
    """
    state = {trial.name: "" if _done(folder / trial.name, trial) else "not run" for trial in trials}
    waiting = [_again(folder / trial.name, trial) for trial in trials if state[trial.name]]
    end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    runner = _on_ray(ray) if ray else _on_processes(jobs)
    with progress.task("Sweep", len(trials), "trials") as advance:
        advance(len(trials) - len(waiting))
        for outcome in runner(waiting, folder, end):
            for name, content in outcome.files.items():
                write_bytes(folder / outcome.name / name, content)
            state[outcome.name] = outcome.fault
            if outcome.fault:
                progress.note(f"{outcome.name}: {outcome.fault}")
            advance(1)
            _write_state(folder, trials, state)
            if on_done is not None:
                on_done([folder / trial.name for trial in trials if not state[trial.name]])
    _write_state(folder, trials, state)
    return state


def _write_state(folder: Path, trials: Sequence[SweepTrial], state: Mapping[str, str]) -> None:
    rows = [{"name": t.name, "values": dict(t.values), "state": state[t.name] or "done"} for t in trials]
    write_json(folder / SWEEP, {"format": "quantbench-sweep-1", "trials": rows})


def _again(run: Path, trial: SweepTrial) -> SweepTrial:
    """The trial, told to calibrate anew where the cache of an earlier run of it was changed: nobody edits that."""
    try:
        changed = {found.what for found in outputs(run, load_run(run)) if found.change}
    except QuantbenchError:
        return trial
    return replace(trial, arguments=(*trial.arguments, "--refresh")) if CACHE in changed else trial


def _done(run: Path, trial: SweepTrial) -> bool:
    """Whether the folder holds the finished run of this very recipe, made by this version, with all that it left."""
    try:
        record = load_run(run)
        if any(found.change for found in outputs(run, record)):
            return False
    except QuantbenchError:
        return False
    known = {key: value for key, value in record.recipe.items() if key != "out"}
    return known == trial.recipe and record.provenance.versions["quantbench"] == quantbench.__version__


Runner = Callable[[Sequence[SweepTrial], Path, float], Iterator[Outcome]]


def _on_processes(jobs: int) -> Runner:
    def run(waiting: Sequence[SweepTrial], folder: Path, end: float) -> Iterator[Outcome]:
        rest = list(waiting)
        with ThreadPoolExecutor(jobs) as pool:
            running: set[Future[Outcome]] = set()
            while rest or running:
                while rest and len(running) < jobs and time.monotonic() < end:
                    trial = rest.pop(0)
                    running.add(pool.submit(run_trial, trial.name, _text(trial), trial.arguments, str(folder), False))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)

    return run


def _on_ray(address: str) -> Runner:
    require_ray()

    def run(waiting: Sequence[SweepTrial], folder: Path, end: float) -> Iterator[Outcome]:
        ray = connected(address)
        # A worker that dies loses its trial alone, which Ray gives to another.
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(run_trial)
        here = str(folder.absolute())
        running = [task.remote(trial.name, _text(trial), trial.arguments, here, True) for trial in waiting]
        while running:
            left = max(end - time.monotonic(), 0.0) if end != float("inf") else None
            done, running = ray.wait(running, num_returns=1, timeout=left)
            if not done:
                for reference in running:
                    ray.cancel(reference, force=True)
                return
            yield from ray.get(done)

    return run


def _text(trial: SweepTrial) -> str:
    text: str = yaml.safe_dump(dict(trial.recipe), sort_keys=False)
    return text


def run_trial(name: str, recipe: str, arguments: tuple[str, ...], folder: str, elsewhere: bool) -> Outcome:
    """Run one trial in a process of its own, in `folder`/`name`; with `elsewhere` hand its files back besides, for a
    driver that does not share the folder."""
    begin = time.monotonic()
    target = Path(folder) / name
    path = Path(folder) / f"{name}.yaml"
    write_text(path, recipe)
    given = ["--recipe", str(path), "--out", str(target), *arguments]
    command = [sys.executable, "-c", _PROGRAM, _ROOT, "ptq", *given]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    # 3 says that a gate was missed, 2 and others that there is no result.
    lines = done.stderr.strip().splitlines()
    fault = "" if done.returncode in (0, 3) else (lines[-1] if lines else f"exit code {done.returncode}")
    files = _files(target) if elsewhere and not fault else {}
    return Outcome(name, fault, time.monotonic() - begin, files)


def _files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def summary(trials: Sequence[SweepTrial], state: Mapping[str, str]) -> dict[str, int]:
    """How many are done, failed and not run."""
    return {
        "done": sum(not state[t.name] for t in trials),
        "not run": sum(state[t.name] == "not run" for t in trials),
        "failed": sum(state[t.name] not in ("", "not run") for t in trials),
    }
