"""Pieces counted by the workers of a Ray cluster; a worker that is lost costs its piece, which Ray gives to another."""

import logging
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from quantbench.errors import QuantbenchError
from quantbench.ptq.piece_job import CountJob, count_piece
from quantbench.ptq.pieces import Piece
from quantbench.ptq.processes import Counted

RETRIES = 3


def require_ray() -> None:
    """Raise QuantbenchError where Ray is absent."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise QuantbenchError("--ray needs Ray: pip install 'quantbench[ray]'") from error


def connected(address: str) -> ModuleType:
    """Ray, with the cluster at `address` behind it. Raises QuantbenchError where none answers."""
    import ray

    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise QuantbenchError(
            f"no Ray cluster answers at {address}; start one with 'ray start --head', or give --ray local"
        ) from error
    module: ModuleType = ray
    return module


def count_on_ray(
    job: CountJob, pieces: Sequence[Piece], key_of: Callable[[Piece], str], address: str
) -> Iterator[Counted]:
    """Each piece with the file of its histograms, as they are done; model and data are opened by each worker.

    Raises QuantbenchError where Ray is absent or no cluster answers, for what is wrong with the data, and for a piece
    whose workers are lost time and again.
    """
    require_ray()
    from ray.exceptions import RayError, RayTaskError

    ray = connected(address)
    task = ray.remote(num_cpus=job.threads, max_retries=RETRIES)(count_piece)
    running = {task.remote(job, piece, key_of(piece)): piece for piece in pieces}
    try:
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            piece = running.pop(done)
            try:
                yield piece, ray.get(done)
            except RayTaskError as error:
                if isinstance(error.cause, QuantbenchError):
                    raise QuantbenchError(str(error.cause)) from error
                raise
            except RayError as error:
                raise QuantbenchError(
                    f"Ray lost the workers of samples {piece.start} to {piece.stop - 1} {RETRIES + 1} times; the same "
                    f"command goes on with what is done ({type(error).__name__})"
                ) from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
