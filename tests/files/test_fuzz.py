"""A little of scripts/fuzz.py in the suite: mutated good files give a result or a QuantbenchError, and nothing else."""

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantbench.errors import QuantbenchError
from scripts.fuzz_targets import TARGETS

CHEAP = ("caches", "recipes", "pictures", "npy", "npz", "run state", "trtexec lines", "models", "layer JSON",
         "models by field", "tars")  # fmt: skip
# What the script found: each was uncaught once.
FOUND = {
    ".onnx": (b"\x08\x08", b"\x08\x00\x3a\x00"),
    ".cache": (b"TRT-" + b"1" * 5000 + b"-EntropyCalibration2\nx: 3c010a14\n",),
    ".yaml": (b"model: a.onnx\ntraining: {freeze_after: 0x" + b"f" * 5000 + b"}\n",),
    ".npy": (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, None), }",
        b"\x93NUMPY\x01\x00v\x00 'fortran_order': False, 'shape': (2, 3, 4, 4), }",  # a SystemError of Python 3.12
    ),
}


@pytest.mark.parametrize("name", CHEAP)
def test_a_mutated_file_is_read_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = TARGETS[name]
    corpus, work = target.corpus(), target.work()
    path = tmp_path_factory.mktemp("fuzz") / f"input{target.ending}"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 1 << 40))
    def check(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(8):
            path.write_bytes(target.mutate(rng.choice(corpus), corpus, rng))
            with contextlib.suppress(QuantbenchError):
                work(path)

    check()


@pytest.mark.parametrize("ending", FOUND)
def test_what_was_found_is_refused(ending: str, tmp_path: Path) -> None:
    work = next(target for target in TARGETS.values() if target.ending == ending).work()
    for number, data in enumerate(FOUND[ending]):
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(data)
        with pytest.raises(QuantbenchError, match=f"{number}{ending}"):
            work(path)
