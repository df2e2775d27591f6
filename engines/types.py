"""The nouns of the live path. Read this file first.

A ``Frame`` comes out of a source, a ``Detection`` says where its face is, an ``AlignedFace`` is that face cut
out upright at a fixed size, a ``Swap`` is the persona's face for it, and blending puts the swap into a copy of
the frame. Pictures are BGR uint8 with pixel centres at integers (OpenCV's convention) unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LandmarkLayout = Literal["mesh468", "points68", "points5"]
"""Which points the rows of ``Detection.landmarks`` are: MediaPipe Face Mesh, iBUG 68, or eyes-nose-mouth corners."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture on its way from source to sink. Nobody writes to ``pixels`` after the source published it, but for
    the frame loop, if nobody else holds the array: who wants to look at it later keeps a reference to the array.
    """

    pixels: U8
    """(H, W, 3) uint8 BGR, contiguous."""
    index: int
    """Counts every picture that the source produced; a gap is a dropped frame."""
    captured_ns: int
    """Monotonic clock when the picture arrived; latency is measured from here."""
    timestamp_ns: int
    """Presentation time since the source's first picture. Recordings keep it; a file's own time stamps stay exact."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True)
class Detection:
    """Where the face is in one frame."""

    frame_index: int
    box: F32
    """(4,) float32: x0, y0, x1, y1 in frame pixels."""
    landmarks: F32
    """(K, 2) float32 xy in frame pixels."""
    layout: LandmarkLayout
    score: float
    """0..1, how sure the network is that this is a face."""


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """A face cut out of a frame, upright, in the family's crop."""

    frame_index: int
    pixels: U8
    """(S, S, 3) uint8 BGR."""
    to_frame: F64
    """(2, 3) affine: crop pixel (x, y, 1) -> frame pixel (x, y)."""
    features: F64 | None = None
    """(N, 2) crop pixels of the wearer's brows, eyes and mouth, which a swap has to cover; None: not known."""
    points: F32 | None = None
    """(P, 2) the wearer's mesh points of MESH_SUBSET as fractions of the crop's side; None: not known. Like ``pixels``
    they may belong to the pipeline until its next frame."""


@dataclass(frozen=True, slots=True)
class Swap:
    """The persona's face for one aligned face. The arrays belong to the swapper until its next call."""

    face: AlignedFace
    pixels: U8
    """(T, T, 3) uint8 BGR; T may differ from S, both squares show the same area."""
    mask: U8
    """(T, T) uint8: 0 keeps the frame, 255 takes the swap."""
