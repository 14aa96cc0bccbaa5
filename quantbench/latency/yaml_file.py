"""YAML of devices: loaded by libyaml's parser where PyYAML has it (twenty times faster)."""

from pathlib import Path
from typing import Any

import yaml

from quantbench.errors import QuantbenchError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Block(str):
    """Text that YAML writes as a block."""


class BlockDumper(yaml.SafeDumper):
    """Writes `Block`s as blocks."""


BlockDumper.add_representer(Block, lambda d, text: d.represent_scalar("tag:yaml.org,2002:str", str(text), style="|"))


def load(path: Path) -> dict[str, Any]:
    """The mapping in `path`. Raises QuantbenchError where it cannot be read or holds none."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise QuantbenchError(f"cannot read {path}: {error.strerror or error}; name an existing file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise QuantbenchError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise QuantbenchError(f"{path} holds no mapping; give a file that 'quantbench device learn' wrote")
    return data
