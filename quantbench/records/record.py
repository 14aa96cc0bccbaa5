"""Record: the base of all that is written into run.json."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from typing_extensions import Self

from quantbench.atomic import write_text
from quantbench.errors import QuantbenchError
from quantbench.text_file import read_text


class Record(BaseModel):
    """A frozen value; unknown keys are refused, so that a record of another version is not half understood."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", protected_namespaces=())

    def to_json(self) -> str:
        """Indented JSON text with a last newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: Path) -> None:
        """Write the JSON to `path` atomically."""
        write_text(path, self.to_json())

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Inverse of `to_json`. Raises QuantbenchError, naming `source` and the first key at fault."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _fault(error, source) from error

    @classmethod
    def of(cls, data: JsonValue, source: str) -> Self:
        """The same of JSON that was parsed already."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _fault(error, source) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at `path`. Raises QuantbenchError where it is missing or of another form."""
        return cls.from_json(read_text(path), str(path))


def _fault(error: ValidationError, source: str) -> QuantbenchError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return QuantbenchError(f"{source} cannot be read{f': {key}' if key else ''}: {first['msg']}")
