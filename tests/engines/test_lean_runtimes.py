"""`--runtime lean` and `dispatch` against the real bindings of these runtimes: every member that a session touches is
there, with the arguments that it is given. Nothing native runs."""

import pytest

from tests.bindings import RUNTIMES, run_with_runtime

_RUN = "import runpy, sys; sys.argv = ['run', *sys.argv[1:]]; runpy.run_module('tests.engines.lean_run', run_name='__main__')"  # noqa: E501


@pytest.mark.parametrize(("kind", "major"), RUNTIMES, ids=lambda value: str(value))
def test_an_engine_is_loaded_and_run(kind: str, major: int) -> None:
    found = run_with_runtime(kind, major, _RUN, kind)
    assert found["version"].startswith(f"{major}.")
    assert not found["builder"]
    assert kind in found["title"]
    assert found["outputs"] == {"y": [4, 2]}
    assert {"Runtime.deserialize_cuda_engine", "IExecutionContext.execute_async_v3"} <= set(found["used"])
