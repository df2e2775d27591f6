"""The README's picture of the gallery: every shipped persona, and below what the demo's wearer looks like with it.

python benchmarks/gallery_picture.py --out docs/gallery.jpg
"""

from __future__ import annotations

import argparse
import tempfile
from importlib import resources
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.gallery import gallery
from engines.persona import PersonaStore, read_persona
from realtime.config import Settings
from realtime.session import run_session

Picture = NDArray[np.uint8]
FRAME = 60
SIDE = 220
_FACE = (slice(60, 640), slice(350, 930))
"""Where the demo's wearer is, rows and columns of 720p."""


def worn(persona: str) -> Picture:
    """(SIDE, SIDE, 3): the demo's wearer with a persona."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "worn.mp4"
        run_session(
            Settings(source="demo", persona=persona, sink=(str(clip),), frames=FRAME + 1, label=False),
            say=lambda _: None,
        )
        with av.open(str(clip)) as container:
            *_, last = container.decode(video=0)
    face = last.to_ndarray(format="bgr24")[_FACE]
    return np.asarray(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def column(path: Path, name: str) -> Picture:
    """Preview, result and name of one persona."""
    preview = read_persona(path).preview
    if preview is None:
        raise SystemExit(f"{path} has no preview")
    picture = cv2.imdecode(np.frombuffer(preview, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"the preview of {path} is damaged")
    above = np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    label = np.full((30, SIDE, 3), 244, np.uint8)
    cv2.putText(label, name, (8, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([label, above, worn(name)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gallery.jpg"))
    out = parser.parse_args().out
    shipped = {
        path.stem: path for path in PersonaStore([Path(str(resources.files("realtime").joinpath("personas")))]).list()
    }
    columns = [column(shipped[name], name) for name in gallery() if name in shipped]
    half = (len(columns) + 1) // 2
    rows = [np.hstack(columns[:half]), np.hstack(columns[half:])]
    width = rows[0].shape[1]
    rows = [cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=(244,) * 3) for r in rows]
    cv2.imwrite(str(out), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
