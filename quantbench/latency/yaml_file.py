"""YAML of devices: loaded by libyaml's parser where PyYAML has it (twenty times faster)."""

from pathlib import Path
from typing import Any

import yaml

from quantbench import limits
from quantbench.errors import QuantbenchError
from quantbench.text_file import read_text

# A device learnt from all of our logs has 30,000.
_MOST_VALUES = 10_000_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Block(str):
    """Text that YAML writes as a block."""


class BlockDumper(yaml.SafeDumper):
    """Writes `Block`s as blocks."""


BlockDumper.add_representer(Block, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", str(text), style="|"))


def load(path: Path) -> dict[str, Any]:
    """The mapping in `path`. Raises QuantbenchError where it cannot be read or holds none."""
    try:
        data = yaml.load(read_text(path, most=limits.DEVICE_BYTES), Loader=_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise QuantbenchError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    limits.check(f"{path}, its aliases written out,", limits.values_of(data), _MOST_VALUES, "values")
    if not isinstance(data, dict):
        raise QuantbenchError(f"{path} holds no mapping; give a file that 'quantbench device learn' wrote")
    return data
