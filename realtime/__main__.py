"""Entry point of the command, also of this package run as a module: explains a system library that OpenCV misses."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C at any moment ends without a traceback, with the shell's status for it."""
    try:
        _start()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None


def _start() -> None:
    try:
        from realtime.cli import app
    except ImportError as error:
        if ".so" not in str(error):
            raise
        sys.stderr.write(
            f"a system library is missing: {error}\n"
            "  -> sudo apt-get install libgl1 libglib2.0-0  (or your distribution's packages of these libraries)\n"
        )
        raise SystemExit(1) from error
    app()


if __name__ == "__main__":
    main()
