"""Text as people quote it: behind `> `, or in a Markdown fence."""

import re

_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(?P<body>.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^[ \t]*>[ \t]?", re.MULTILINE)


def unquoted(text: str) -> str:
    """`text` without the `> ` before its lines (where each non-empty line has it) and without the fences around it.

    Several fences give the longest body; text that is not quoted comes back as it is.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and all(line.lstrip().startswith(">") for line in lines):
        text = _MARK.sub("", text)
    bodies = [found["body"] for found in _FENCE.finditer(text)]
    return max(bodies, key=len) if bodies else text
