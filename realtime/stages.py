"""What the pipeline runs: one seam for each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from engines.crop_square import CropSquare
from engines.types import F32, F64, U8, AlignedFace, Detection, Frame, Swap


class Tracks(Protocol):
    """Finds and follows the face, and gives its smoothed square."""

    def update(self, frame: Frame) -> Detection | None: ...  # noqa: D102

    def align(self, detection: Detection, size: int, t_s: float) -> F64: ...  # noqa: D102

    def settle(self, frame: Frame) -> None:
        """What has time until ``frame`` went out; it counts from the next one on."""
        ...

    def reset(self) -> None: ...  # noqa: D102


class Swaps(Protocol):
    """Turns an aligned face into the persona's."""

    crop_size: int

    def swap(self, face: AlignedFace) -> Swap: ...  # noqa: D102


@runtime_checkable
class OwnSquare(Protocol):
    """A swap whose network may see another part of the head than the standard square."""

    square: CropSquare


class Blends(Protocol):
    """Puts a swap into a picture."""

    def paste(self, out: U8, swap: Swap, dt_s: float) -> int:
        """How many pixels took any of the swap; 0 or less when it would not cover the face."""
        ...

    def reset(self) -> None: ...  # noqa: D102


class Calms(Protocol):
    """Takes the noise out of what the swap will see, and of nothing that is shown."""

    def __call__(self, crop: U8, points: F32 | None, t_s: float) -> None:
        """In place: the (S, S, 3) crop and its mesh points, of the frame at ``t_s`` seconds."""
        ...

    def reset(self) -> None: ...  # noqa: D102


class Draws(Protocol):
    """Draws over a finished picture."""

    def draw(self, out: U8) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Stages:
    """What the pipeline runs, in this order."""

    track: Tracks
    crop: Callable[[U8, F64, U8], None]
    """(frame pixels, crop->frame affine, (S, S, 3) destination): cut the face out."""
    swap: Swaps
    blend: Blends
    label: Draws | None
    calm: Calms | None = None
