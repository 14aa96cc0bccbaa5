"""Models that `auto` compares lie in memory one at a time: the other waits in a file, and comes back as it was."""

import gc
import tempfile
from pathlib import Path

import pytest

from quantbench.calibration.collect import collect
from quantbench.core import auto, waiting
from quantbench.core.auto import best_by_outputs
from quantbench.graph.onnx_view import view_of
from quantbench.graph.surgery import bytes_of
from quantbench.qdq.carry_out import CarriedOut
from quantbench.qdq.place import place
from tests.core.test_auto import judging, spiky


@pytest.mark.parametrize("level", [4.0, 4000.0])
def test_while_one_model_is_made_no_other_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: float
) -> None:
    model, batches = spiky(tmp_path, level)
    plan = place(view_of(model))
    histograms = collect(model, batches, plan.tensors, threads=1)
    usual = best_by_outputs(histograms, judging(model, plan, batches))
    beside: list[int] = []
    files = tmp_path / "files"
    files.mkdir()

    def counted(name: str) -> None:
        make = getattr(auto, name)

        def spied(*given: object, **more: object) -> CarriedOut:
            held = [one for one in gc.get_objects() if type(one) is CarriedOut and bytes_of(one.model)]
            beside.append(len([one for one in held if one is not usual.made and one not in given]))
            made: CarriedOut = make(*given, **more)
            return made

        monkeypatch.setattr(auto, name, spied)

    counted("carry_out")
    counted("with_biases")
    monkeypatch.setattr(waiting, "_IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    taken = best_by_outputs(histograms, judging(model, plan, batches))
    assert len(beside) >= 3
    assert set(beside) == {0}
    assert taken.judged == usual.judged
    stored, before = ({t.name: t.raw_data for t in one.made.model.graph.initializer} for one in (taken, usual))
    assert stored == before
    del taken
    gc.collect()
    assert not list(files.iterdir())
