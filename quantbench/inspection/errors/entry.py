"""Explanation of one error of TensorRT's."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """`printed` is the error as TensorRT prints it, with `…` for what varies; `causes` come in order of likelihood;
    `command` is what to do next; `thread` is the public thread that meaning and causes rest on, `owner/name#number`."""

    name: str
    printed: str
    pattern: re.Pattern[str]
    meaning: str
    causes: tuple[str, ...]
    command: str
    thread: str

    @property
    def url(self) -> str:
        """Address of the thread."""
        repository, _, number = self.thread.partition("#")
        return f"https://github.com/{repository}/issues/{number}"


def error(
    name: str, printed: str, pattern: str, meaning: str, causes: tuple[str, ...], command: str, thread: str
) -> ErrorEntry:
    """An entry; `pattern` is searched in a message without its prefix."""
    return ErrorEntry(name, printed, re.compile(pattern), meaning, causes, command, thread)
