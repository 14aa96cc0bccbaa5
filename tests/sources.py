"""The package's own files, parsed once in a process: several tests read all of them."""

import ast
from functools import cache
from pathlib import Path


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """What `ast.walk` finds in `file`, the module first."""
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
