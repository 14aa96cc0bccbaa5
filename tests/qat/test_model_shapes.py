"""Checkpoints as people have them: other sides, one channel, keys of DDP and of torch.compile."""

from pathlib import Path

import pytest
import torch
from torch import nn

from quantbench.errors import QuantbenchError
from quantbench.qat.models import load_model
from quantbench.recipe import Architecture


class Flat(nn.Module):
    """A conv, flatten and a linear layer, which fits one size alone."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, 2, 1)
        self.head = nn.Linear(8 * 16 * 24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.conv(x).flatten(1))
        return y


def load(tmp_path: Path, state: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    torch.save(state, tmp_path / "flat.pt")
    architecture = Architecture(factory=f"{__file__}:Flat", arguments={"channels": shape[0]}, input_shape=shape)
    model = load_model(str(tmp_path / "flat.pt"), architecture=architecture)
    assert model.preprocess.shape == shape
    model.module(model.example)
    return tuple(model.example.shape)


def test_height_and_width_are_two_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, Flat().state_dict(), (3, 32, 48)) == (1, 3, 32, 48)


def test_one_channel_gets_grey_pictures_and_four_a_line(tmp_path: Path) -> None:
    assert load(tmp_path, Flat(1).state_dict(), (1, 32, 48)) == (1, 1, 32, 48)
    with pytest.raises(QuantbenchError, match="takes 4 channels, pictures have 3"):
        load(tmp_path, Flat(4).state_dict(), (4, 32, 48))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_of_trainers(tmp_path: Path, prefix: str) -> None:
    state = {prefix + key: value for key, value in Flat().state_dict().items()}
    assert load(tmp_path, {"net": state}, (3, 32, 48)) == (1, 3, 32, 48)


def test_a_state_dict_under_an_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match="holds dictionaries under 'generator'"):
        load(tmp_path, {"generator": Flat().state_dict()}, (3, 32, 48))
