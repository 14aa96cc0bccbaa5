"""Entry of `quantbench` and `python -m quantbench`: signals are ours before anything slow is imported."""

import signal
import sys
from types import FrameType

from quantbench.errors import Interrupted


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM end it with one line, at whatever moment they come."""
    signals = (signal.SIGINT, signal.SIGTERM)
    usual = [signal.signal(number, _interrupt) for number in signals]
    try:
        from quantbench.cli.main import main as run

        run()
    except Interrupted:
        print("quantbench: interrupted before anything was done", file=sys.stderr)
        sys.exit(130)
    finally:
        for number, handler in zip(signals, usual, strict=True):
            signal.signal(number, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(terminated=signum == signal.SIGTERM)


if __name__ == "__main__":
    main()
