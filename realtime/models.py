"""InsightFace's model pack: found where it lies, and fetched only after an explicit yes to its licence."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from engines.errors import MissingDependencyError, SettingsError
from realtime.detect import detection_file

PACK = "buffalo_l"
LICENCE_SUMMARY = """\
InsightFace model pack buffalo_l (SCRFD face detection, landmarks, recognition), about 280 MB.
  The InsightFace code is under the MIT licence; its pretrained models are NOT: they are for
  NON-COMMERCIAL RESEARCH PURPOSES ONLY, whether downloaded automatically or by hand.
  Streaming for money, products and services need a licence from InsightFace.
  personacam works without them: its default detector (mesh) comes with the package, under Apache-2.0."""

Downloader = Callable[[Path, str], None]
"""(folder, pack name): put the pack's files somewhere below ``folder``."""


def default_insightface_folder() -> Path:
    """Where the insightface package keeps its packs, one folder each."""
    return Path.home() / ".insightface" / "models"


def locate_insightface(folder: Path) -> Path | None:
    """The pack in ``folder`` (itself a pack, or a folder of packs; buffalo_l is preferred), or None."""
    if not folder.is_dir():
        return None
    preferred = folder / PACK
    others = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    # Some archives hold a folder of the pack's own name.
    places = [folder, preferred, preferred / PACK, *others, *(path / path.name for path in others)]
    return next((place for place in places if place.is_dir() and detection_file(place) is not None), None)


def download_with_insightface(folder: Path, name: str) -> None:
    """Fetch through the insightface package's own storage helper. Raises what it raises."""
    from insightface.utils import storage

    # The helper prints to stdout, which belongs to results.
    with contextlib.redirect_stdout(sys.stderr):
        storage.download(".", name, force=True, root=str(folder))


def fetch_insightface(*, accept: bool, folder: Path, downloader: Downloader = download_with_insightface) -> Path:
    """Fetch the pack into ``folder`` unless it is there, and return the pack's folder.

    ``accept`` is the user's explicit yes to LICENCE_SUMMARY; without it nothing is fetched and SettingsError is raised.
    Raises MissingDependencyError when the download fails; a half-fetched pack is not left behind.
    """
    if not accept:
        raise SettingsError("the licence was not accepted", hint="say yes to it, or use --detector mesh")
    present = locate_insightface(folder / PACK)
    if present is not None:
        return present
    target = folder / PACK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{PACK}-") as temporary:
            downloader(Path(temporary), PACK)
            fetched = locate_insightface(Path(temporary))
            if fetched is None:
                raise MissingDependencyError("the download holds no detection network", hint=_by_hand(target))
            fetched.rename(target)
    # requests' errors are OSErrors; the helper reports a bad answer of the server as RuntimeError.
    except (OSError, RuntimeError, zipfile.BadZipFile, ImportError) as error:
        raise MissingDependencyError(f"{PACK} could not be fetched: {_short(error)}", hint=_by_hand(target)) from error
    return target


def _by_hand(target: Path) -> str:
    return f"check the connection and try again, or unpack {PACK}.zip from InsightFace's model zoo into {target}"


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
