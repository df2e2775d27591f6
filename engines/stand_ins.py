"""Other people in a person's frames: what an enrollment needs to hear of wearers that it has no footage of.

A persona is worn by others, and their codes are not the person's own in the same state: the universal encoder leaves
some of who they are in them. An enrollment that only ever reconstructs the person learns to trust that. So each frame
is also painted over with people that the trunk knows, in the frame's own state, as a swap would:

    stand-in = frame * (1 - mask_p) + face_p * mask_p     face_p, mask_p = trunk(code of the frame, vector of person p)

and learned from as input, with the person's untouched frame as truth. Mesh points are what Face Mesh sees in it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.augment import to_pictures
from engines.facemesh import FaceMesh, load_facemesh, look
from engines.faceset_codec import I64
from engines.film import FilmDecoder
from engines.mesh_subset import MESH_SUBSET
from engines.pairs import Batch
from engines.types import F32, U8

_PICTURES = 600
"""About so many in all, 170 kB each at 240 pixels: more bring little, and 25 ms each."""
_MOST_EACH = 16
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class StandIns:
    """M other people in each of N frames."""

    pictures: U8
    """(N, M, size, size, 3) BGR, as the stored crops."""
    points: F32 | None
    """(N, M, P, 2) pixels of the stored crops; NaN where Face Mesh sees no face. None: nobody asked for any."""

    @property
    def each(self) -> int:
        """M"""
        return int(self.pictures.shape[1])

    def take(self, batch: Batch, where: I64, rows: I64, who: I64) -> None:
        """Put them into a batch's inputs at ``where``. The batch shows frames ``rows`` (n,); ``who`` (n,) stands in.

        The batch's arrays are written to.
        """
        batch.inputs[where] = self.pictures[rows[where], who[where]]
        if self.points is not None and batch.points is not None:
            batch.points[where] = self.points[rows[where], who[where]]


def how_many(frames: int) -> int:
    """M for so many frames."""
    return max(1, min(_MOST_EACH, _PICTURES // frames))


def paint(
    crops: U8, near: F32, codes: Tensor, trunk: FilmDecoder, people: Tensor, *, margin: float, with_points: bool,
    seed: int,
) -> StandIns:  # fmt: skip
    """Stand-ins for ``crops`` (N, size, size, 3) with landmarks ``near`` (N, K, 2) and ``codes`` (N, C).

    ``people`` (P, F) are the trunk's; who stands in for whom depends on ``seed`` alone. Raises RuntimeFailure when Face
    Mesh cannot be loaded, and DetectorError.
    """
    each = how_many(len(crops))
    who = np.random.default_rng((seed, 0x57A)).integers(len(people), size=(len(crops), each))
    pictures = np.repeat(crops[:, None], each, axis=1)
    for k in range(each):
        for at in range(0, len(crops), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            _paint_over(pictures[part, k], trunk, codes[part], people[torch.from_numpy(who[part, k])], margin)
    if not with_points:
        return StandIns(pictures, None)
    with closing(load_facemesh()) as facemesh:
        seen = [[_points(facemesh, pictures[i, k], near[i]) for k in range(each)] for i in range(len(crops))]
    return StandIns(pictures, np.array(seen, np.float32))


@torch.no_grad()
def _paint_over(pictures: U8, trunk: FilmDecoder, codes: Tensor, people: Tensor, margin: float) -> None:
    """Lay (n,) people over the middle of (n, size, size, 3) ``pictures``, where the networks' crop is."""
    faces, logits = trunk(codes, people.to(codes.device))
    painted, covers = to_pictures(faces.float().cpu().clamp(0, 1)), torch.sigmoid(logits.float().cpu())[:, 0].numpy()
    size = pictures.shape[1]
    side = round(size / margin)
    start = (size - side) // 2
    for picture, face, cover in zip(pictures, painted, covers, strict=True):
        inside = picture[start : start + side, start : start + side]
        weight = cv2.resize(cover, (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
        large = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
        inside[:] = np.rint(inside * (1 - weight) + large * weight).astype(np.uint8)


def _points(facemesh: FaceMesh, picture: U8, near: F32) -> NDArray[np.floating]:
    mesh = look(facemesh, picture, near)
    return np.full((len(MESH_SUBSET), 2), np.nan) if mesh is None else mesh[MESH_SUBSET, :2]
