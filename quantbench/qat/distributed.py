"""Processes started by torchrun: one group, NCCL on GPUs and gloo on CPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from quantbench.errors import QuantbenchError
from quantbench.qat.cards import require_number

Value = TypeVar("Value")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that torchrun describes in the environment; without torchrun nothing happens."""
    if "LOCAL_RANK" not in os.environ or (dist.is_available() and dist.is_initialized()):
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process writes the results."""
    return int(os.environ.get("RANK", "0")) == 0


def from_first(value: Value) -> Value:
    """What the first process has of `value`, in every process of the group."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def device(wanted: str) -> torch.device:
    """The device of this process, where "", cpu, cuda or cuda:N is `wanted`. Raises QuantbenchError for a GPU that is
    not there, and for one GPU for several processes."""
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and not torch.cuda.is_available():
        raise QuantbenchError("torch sees no CUDA GPU; leave --device out or give --device cpu")
    if kind == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if number:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise QuantbenchError(f"--device {wanted} is one card for all processes; give --device cuda: a card each")
        require_number(int(number), torch.cuda.device_count())
        return torch.device("cuda", int(number))
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def ultralytics_device(chosen: torch.device) -> str:
    """The device as ultralytics spells it: all GPUs of the group, or cpu."""
    if chosen.type == "cpu":
        return "cpu"
    if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) == 1:
        return str(chosen.index or 0)
    return ",".join(str(i) for i in range(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
