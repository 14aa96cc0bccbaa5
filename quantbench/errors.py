"""The one exception that a user sees as a line instead of a traceback."""


class QuantbenchError(Exception):
    """A fault of the input or the machine, not of quantbench: one line that names the thing and the way out.

    The CLI prints the message after `quantbench: error:` and exits with code 2.
    """


class Interrupted(BaseException):
    """Ctrl-C, or SIGTERM (`terminated`). Not a KeyboardInterrupt, which the CLI library would swallow before a word
    can be said."""

    def __init__(self, *, terminated: bool = False) -> None:
        super().__init__()
        self.terminated = terminated
