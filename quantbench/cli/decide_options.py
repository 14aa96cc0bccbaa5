"""Model, images and how to read them: what `sensitivity`, `tune` and `sweep` are asked alike, as a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantbench.decide.workbench import Workbench
    from quantbench.recipe import Recipe


def recipe_of(
    recipe: str | None, changes: Mapping[str, object], data: str | None, eval_data: str | None, *, trust: bool = False
) -> "Recipe":
    """A recipe (or none) with what the command line says; `data` and `eval_data` are folders or data sets.

    Raises QuantbenchError as `load_recipe` does, and where it names no data.
    """
    from quantbench.errors import QuantbenchError
    from quantbench.images.shard_names import names_data
    from quantbench.recipe import Recipe, load_recipe
    from quantbench.recipe_files import recipe_path

    found = dict(changes)
    for name, folder, dataset in (
        (data, "data.calib_dir", "data.dataset"), (eval_data, "evaluation.dir", "evaluation.dataset"),
    ):  # fmt: skip
        if name is not None:
            here = names_data(Path(name))
            found[folder if here else dataset] = Path(name) if here else name
    asked = load_recipe(recipe_path(recipe), found, trust=trust) if recipe else Recipe().merged(found)
    if asked.data.calib_dir is None and asked.data.dataset is None and not asked.data.inputs:
        raise QuantbenchError(
            "no calibration data: give --data with a folder of images or arrays, tar shards or a data set's name, or "
            "a --recipe that names some"
        )
    return asked


def bench_of(recipe: "Recipe", *, quiet: bool = False, trust: bool = False) -> "Workbench":
    """The workbench of a recipe. Raises QuantbenchError for whatever is wrong with model or images."""
    from dataclasses import replace

    from quantbench.cli.requests import ptq_request
    from quantbench.decide.workbench import Workbench
    from quantbench.progress import Progress
    from quantbench.ptq.prepare import prepare
    from quantbench.runnable import told

    request = ptq_request(recipe, trust=trust)
    # No engine is built while searching; the run that is made of the result builds it.
    run = prepare(replace(request, compile=replace(request.compile, backend="none")))
    progress = Progress("none" if quiet else None)
    if cut := told(run.model.proto):
        progress.note(cut)
    return Workbench(
        run, request.placement, progress, request.threads, request.data.max_bad, request.predicted,
        request.best_placement, request.weights, request.fold,
    )  # fmt: skip
