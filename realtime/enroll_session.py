"""From footage of one person to a face set: every frame is found, judged and read, and the best ones are kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from calibration.consent_gates import Gatekeeper
from calibration.enrollment import Enrollment, EnrollOptions, ProgressCallback
from engines.types import Frame


def enroll_footage(
    frames: Iterable[Frame],
    name: str,
    out: Path,
    *,
    consent: str,
    footage: tuple[str, ...] = (),
    options: EnrollOptions = EnrollOptions(),
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> Enrollment:
    """The faces of one person in ``frames``, chosen by what they show, as a face set in ``out``/faces.

    ``consent`` and ``footage`` are what ``Gatekeeper.extract`` returned, or "invented:SEED" and nothing: this function
    asks no gate, ``enroll_files`` does. ``stop`` and KeyboardInterrupt end it with everything kept; the same call goes
    on where it stopped, and on a finished folder returns what is there. Raises EnrollmentError for footage without a
    usable face or with several people, MissingDependencyError without the packages that tell people apart, DataError
    when ``out`` holds something else.
    """
    raise NotImplementedError


def enroll_files(
    paths: Sequence[Path],
    name: str,
    out: Path,
    gate: Gatekeeper,
    *,
    options: EnrollOptions = EnrollOptions(),
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
) -> Enrollment:
    """``enroll_footage`` on video files of a real person, through the gates before and after.

    Raises ConsentError and SourceError besides.
    """
    raise NotImplementedError
