"""The README's picture: three moments of the demo as wearer, persona, result.

    python benchmarks/readme_picture.py

Reads the shipped clip and personas, runs the real pipeline, writes ``docs/wearer_persona_result.jpg``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engines.persona import read_persona
from realtime.demo import run_demo
from realtime.session import demo_clip, persona_store

OUT = Path(__file__).parent.parent / "docs" / "wearer_persona_result.jpg"
MOMENTS = (("vera", 48), ("kofi", 130), ("vera", 215))
WINDOW = (slice(60, 700), slice(320, 960))


def frames(path: Path, wanted: set[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decoded frames with the given numbers."""
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield index, frame.to_ndarray(format="bgr24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    wearer = dict(frames(demo_clip(), {index for _, index in MOMENTS}))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name in {name for name, _ in MOMENTS}:
            path = Path(folder) / f"{name}.mp4"
            run_demo(path, name, score=False, say=lambda _: None)
            results[name] = dict(frames(path, {index for _, index in MOMENTS}))
        for name, index in MOMENTS:
            preview = read_persona(persona_store().find(name)).preview
            side = WINDOW[0].stop - WINDOW[0].start
            portrait = cv2.imdecode(np.frombuffer(preview or b"", np.uint8), cv2.IMREAD_COLOR)
            portrait = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
            rows.append(np.hstack([wearer[index][WINDOW], portrait, results[name][index][WINDOW]]))
    sheet = cv2.resize(np.vstack(rows), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out), sheet, [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(arguments.out)


if __name__ == "__main__":
    main()
