"""Finishing a recording in a process of its own.

    python -m realtime.recording_worker     one job as JSON on standard input, the outcome as JSON on standard output

Copying and signing go through the whole file. In the process of the frames they would hold the interpreter for seconds
per hour of recording, and take 0.6 GB of memory while they sign; a running stream must not feel that another recording
was stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from engines.errors import PersonacamError, SinkError
from realtime.credentials import CredentialClaim, sign_file
from realtime.credentials_identity import load_identity, local_identity
from realtime.remux import copy_packets

_NICE = 10


def copy_apart(part: Path, target: Path) -> None:
    """``recorder.copy_packets`` in another process. Raises OSError as it does, with its number where there is one."""
    _done({"do": "copy", "part": str(part), "target": str(target)})


def sign_apart(path: Path, out: Path, claim: CredentialClaim, home: Path, own: tuple[Path, Path] | None) -> None:
    """``credentials.sign_file`` in another process, which reads the keys itself: those of ``home``, or the user's
    ``own`` chain and key. Raises SinkError, SettingsError.
    """
    paths = {"path": str(path), "out": str(out), "home": str(home), "own": [str(p) for p in own] if own else None}
    _done({"do": "sign", "claim": asdict(claim), **paths})


def _done(job: dict[str, Any]) -> None:
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path)])}
    # In a group of its own: Ctrl-C ends the stream, and the recording is finished all the same.
    windows = sys.platform == "win32"
    flags = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)) if windows else 0
    run = subprocess.run(
        [sys.executable, "-m", "realtime.recording_worker"], input=json.dumps(job).encode(), env=environment,
        capture_output=True, check=False, creationflags=flags, start_new_session=not windows,
    )  # fmt: skip
    try:
        answer = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = run.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"status {run.returncode}"]
        raise OSError(f"the process that finishes recordings ended: {last[0]}") from None
    if "hint" in answer:
        raise SinkError(answer["message"], hint=answer["hint"])
    if "message" in answer:
        raise OSError(answer["errno"], answer["message"])


def _work(job: dict[str, Any]) -> dict[str, Any]:
    """{} when it is done."""
    try:
        if job["do"] == "copy":
            copy_packets(Path(job["part"]), Path(job["target"]))
        else:
            own, claim = job["own"], job["claim"]
            identity = load_identity(Path(own[0]), Path(own[1])) if own else local_identity(Path(job["home"]))
            claim = CredentialClaim(**{**claim, "personas": tuple(claim["personas"])})
            sign_file(Path(job["path"]), Path(job["out"]), claim, identity)
    except PersonacamError as error:
        return {"message": error.message, "hint": error.hint}
    except (FFmpegError, OSError) as error:
        return {"message": str(error), "errno": error.errno}
    return {}


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(_NICE)
    sys.stdout.write(json.dumps(_work(json.loads(sys.stdin.buffer.read()))) + "\n")
