"""The truth beside the demo's clip: reading needs the base install only, the renderer is not imported."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TRUTH_SIZE = 128


@dataclass(frozen=True)
class PersonaTruth:
    """True renders of one persona in the demo's states."""

    frames: NDArray[np.int64]
    """(n,) frame numbers."""
    crops: NDArray[np.uint8]
    """(n, 128, 128, 3) BGR, aligned by the persona's own true landmarks."""
    masks: NDArray[np.uint8]
    """(n, 128, 128) 0..255."""
    landmarks: NDArray[np.float32]
    """(n, 68, 2) of the wearer in the clip's frames: where the true swap lies."""


def pack_truth(
    frames: NDArray[np.int64], crops: NDArray[np.uint8], masks: NDArray[np.uint8], prefix: str
) -> dict[str, NDArray[np.uint8] | NDArray[np.int64]]:
    """Arrays for the .npz: crops as one WebP strip, masks as one PNG strip."""
    strip = crops.reshape(-1, TRUTH_SIZE, 3)
    _, webp = cv2.imencode(".webp", strip, [cv2.IMWRITE_WEBP_QUALITY, 96])
    _, png = cv2.imencode(".png", masks.reshape(-1, TRUTH_SIZE))
    return {f"{prefix}_frames": frames, f"{prefix}_crops": webp.ravel(), f"{prefix}_masks": png.ravel()}


def load_truth(path: Path, persona: str) -> PersonaTruth | None:
    """Read back what ``pack_truth`` wrote; None when the file has no truth for this persona."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
        if f"{persona}_frames" not in data:
            return None
        frames = data[f"{persona}_frames"]
        landmarks = data["landmarks"][frames]
        crops = np.asarray(cv2.imdecode(data[f"{persona}_crops"], cv2.IMREAD_COLOR), np.uint8)
        masks = np.asarray(cv2.imdecode(data[f"{persona}_masks"], cv2.IMREAD_GRAYSCALE), np.uint8)
    size = TRUTH_SIZE
    return PersonaTruth(frames, crops.reshape(-1, size, size, 3), masks.reshape(-1, size, size), landmarks)
