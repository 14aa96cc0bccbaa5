"""Read a text or JSON file that may come from anyone, or say in one line why not."""

import json
import re
from pathlib import Path
from typing import Any

from quantbench import limits
from quantbench.errors import QuantbenchError

# Half of a surrogate pair, as JSON spells it; no file and no terminal takes the character.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: Path, what: str = "", *, most: int = limits.TEXT_BYTES, encoding: str = "utf-8") -> str:
    """Text of the regular file at `path`; `what` it is stands in messages ("labels").

    Raises QuantbenchError where it is missing, no regular file, over `most` bytes, or of another encoding.
    """
    named = f"{what} {path}" if what else str(path)
    try:
        limits.regular_file(path, most)
        return path.read_text(encoding=encoding)
    except OSError as error:
        raise QuantbenchError(f"cannot read {named}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise QuantbenchError(f"cannot read {named}: it is no UTF-8 text (byte {error.start})") from error


def read_json(path: Path, what: str = "") -> Any:
    """Plain data of the JSON file at `path`. Raises QuantbenchError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, what), f"{what} {path}" if what else str(path))


def read_object(path: Path, what: str = "") -> dict[str, Any]:
    """As `read_json`, of a file that holds a JSON object."""
    data = read_json(path, what)
    if not isinstance(data, dict):
        raise QuantbenchError(f"{what} {path} holds no JSON object".lstrip())
    return data


def parse_json(text: str | bytes, source: str) -> Any:
    """Plain data of JSON text. Raises QuantbenchError, naming `source`, for text that is none, nests a thousand deep,
    or holds names that are no Unicode."""
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise QuantbenchError(f"{source} is JSON that nests deeper than anyone writes") from error
    except ValueError as error:
        raise QuantbenchError(f"{source} is no JSON: {str(error)[:160]}") from error
    plain = text if isinstance(text, str) else text.decode("utf-8", "replace")
    if _HALF.search(plain):
        try:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise QuantbenchError(f"{source} holds a name with half a character (\\ud800 to \\udfff)") from error
    return data
