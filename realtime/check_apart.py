"""A persona file, checked in a process of its own while frames run.

    python -m realtime.check_apart PERSONA_FILE     prints the sha256 of a file that is in order

Working out the shapes of a network holds the interpreter for 0.14 s of processor time in one call, in which four frames
would be lost. What is checked there is not checked again (``read_persona``), if it is still the same file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from calibration.consent_gates import shown_only
from engines.errors import PersonacamError
from engines.persona import read_persona

TIMEOUT_S = 60.0


def digest_if_sound(path: Path) -> str | None:
    """Sha256 of a file that another process found in order; None: it did not, or could not be asked.

    The caller then checks it itself, and gets the error with its reason.
    """
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path)])}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "realtime.check_apart", str(path.resolve())], env=environment, timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),  # Windows
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    digest = done.stdout.strip()
    return digest if done.returncode == 0 and len(digest) == 64 else None


def main() -> None:
    """Check the file that the command line names."""
    if hasattr(os, "nice"):  # not on Windows, where whoever starts this says so
        os.nice(5)
    try:
        sys.stdout.write(read_persona(Path(sys.argv[1]), admit=shown_only).sha256 + "\n")
    except PersonacamError as error:
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
