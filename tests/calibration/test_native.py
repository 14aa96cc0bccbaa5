"""Where the compiled sweep comes from, and that nothing breaks where it cannot."""

from pathlib import Path

import pytest

from quantbench.calibration import native


@pytest.fixture
def fresh(monkeypatch, tmp_path: Path) -> Path:
    native.load.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "library_name", lambda: "_none_is_installed.so")
    yield tmp_path
    native.load.cache_clear()


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
def test_it_is_built_once_and_found_again(fresh: Path, monkeypatch) -> None:
    assert native.load() is not None
    assert len(list((fresh / "quantbench").iterdir())) == 1
    native.load.cache_clear()
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.load() is not None
    broken = fresh / "broken.so"
    broken.write_bytes(b"no library")
    assert native._open(broken) is None


def test_without_a_compiler_or_when_asked_numpy_counts(fresh: Path, monkeypatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", str(fresh))
    assert native.load() is None
    monkeypatch.undo()
    native.load.cache_clear()
    monkeypatch.setenv("QUANTBENCH_NATIVE", "0")
    assert native.load() is None


@pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")
def test_a_library_of_another_source_is_not_taken(fresh: Path, monkeypatch) -> None:
    target = fresh / "old.so"
    assert native.compile_library(target)
    assert native._open(target) is not None
    other = fresh / "other.so"
    assert native.compile_library(other)
    monkeypatch.setattr(native, "fingerprint", lambda: "changed")
    assert native._open(other) is None
