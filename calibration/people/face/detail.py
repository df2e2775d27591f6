"""The lines that make a look: brow hairs and lashes of filmed people, ink lines of drawn ones."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.brows import BROW_X, BrowGround, BrowStrands, Lashes, brow_line
from calibration.people.face.strands import Ribbons, ribbons
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel
from calibration.people.identity import Identity

_LASH_WIDTH = 0.0027
_LASH_COLOUR = (0.012, 0.009, 0.008)
_INK_WIDTHS = {"brow": 0.036, "upper": 0.050, "lower": 0.012, "mouth": 0.016}
_LIP_LINES = ((48, 60, 61, 62, 63, 64, 54), (60, 67, 66, 65, 64))
"""iBUG points along the lips' inner edges."""


class Detail(Protocol):
    """Ribbons whose number and widths stay, and whose points move."""

    @property
    def count(self) -> int:
        """Ribbons in all."""
        ...

    @property
    def along(self) -> Points:
        """(K,) places along a ribbon, 0..1."""
        ...

    def points(self, skin: Points, normals: Points, rotation: Points, eyes: list[Points]) -> Points:
        """(count, K, 3) for the posed skin; ``rotation`` (3, 3) of the head, ``eyes`` the two centres (3,)."""
        ...

    def ribbons(self, points: Points) -> Ribbons:
        """Vertices and indices of (count, K, 3) points."""
        ...


class HairDetail:
    """Brow hairs and lashes."""

    def __init__(self, who: Identity, head: HeadModel, brows: BrowStrands, rng: np.random.Generator) -> None:
        self._brows, self._lashes = brows, Lashes(who.lash_length, who.lashes, rng)
        self._index = head.fine_index
        self.along: Points = np.linspace(0, 1, 4)
        lashes = self._lashes.count
        self.count = len(brows.random) + lashes
        self._width = np.r_[brows.width, np.full(lashes, _LASH_WIDTH)][:, None] * (1 - 0.7 * self.along**2)
        self._random = np.r_[brows.random, (np.arange(lashes) * 0.618034) % 1.0]
        self._colour = np.concatenate([brows.colour, np.tile(_LASH_COLOUR, (lashes, 1))])
        # Lashes stand before bare skin and fade into it where they are finer than a sample.
        self._fades = np.repeat([0.6, 1.0], [len(brows.random), lashes])[:, None] * np.ones(len(self.along))

    def points(self, skin: Points, normals: Points, rotation: Points, eyes: list[Points]) -> Points:
        """As in ``Detail``."""
        parts = [self._brows.strands(skin, normals, rotation, self.along)]
        for eye, side in enumerate(("left", "right")):
            upper, lower = (skin[self._index[f"{side}_{lid}_lid"]] for lid in ("upper", "lower"))
            parts.append(self._lashes.strands(eye, eyes[eye], upper, lower, rotation, self.along))
        return np.concatenate(parts)

    def ribbons(self, points: Points) -> Ribbons:
        """As in ``Detail``."""
        return ribbons(points, self._width, self._fades, self._random, self._colour)


class InkDetail:
    """Two brows, the lines of four lids and of two lips, each a single stroke."""

    count = 8

    def __init__(self, who: Identity, head: HeadModel) -> None:
        self._index = head.fine_index
        self.along: Points = np.linspace(0, 1, 14)
        line = np.c_[BROW_X[0] + self.along * (BROW_X[1] - BROW_X[0]), brow_line(self.along, who.brow.arch)]
        ground = BrowGround(head)
        self._brows = [ground.bind(line * [sign, 1]) for sign in (1.0, -1.0)]
        # A pen presses in the middle of a stroke; the upper lid's line swells towards the outer corner.
        brow = np.interp(self.along, (0, 0.15, 0.5, 1), (0.45, 1.0, 0.9, 0.15)) * _INK_WIDTHS["brow"]
        brow = brow * (0.6 + 14 * who.brow.thickness)
        upper = np.interp(self.along, (0, 0.2, 0.75, 1), (0.25, 0.75, 1.0, 0.35)) * _INK_WIDTHS["upper"]
        lower = np.interp(self.along, (0, 0.4, 0.8, 1), (0.0, 0.5, 1.0, 0.2)) * _INK_WIDTHS["lower"]
        mouth = np.interp(self.along, (0, 0.2, 0.5, 0.8, 1), (0.5, 1.0, 0.6, 1.0, 0.5)) * _INK_WIDTHS["mouth"]
        self._width = np.stack([brow, brow, upper, lower, upper, lower, mouth, 0.6 * mouth])
        ink: NDArray[np.float64] = np.array(_LASH_COLOUR) * 1.5
        lips = np.array((0.12, 0.035, 0.035))
        hair = np.array(who.brow.colour) * 0.55 + 0.004
        self._colour = np.stack([hair, hair, ink, ink, ink, ink, lips, lips])

    def points(self, skin: Points, normals: Points, rotation: Points, eyes: list[Points]) -> Points:
        """As in ``Detail``."""
        lines = [bond.of(skin) + 0.035 * bond.of(normals) for bond in self._brows]
        for eye, side in enumerate(("left", "right")):
            for lid, out in (("upper", 0.035), ("lower", 0.01)):
                chain = skin[self._index[f"{side}_{lid}_lid"]]
                line = self._along(chain)
                away = line - eyes[eye]
                line = line + out * away / np.linalg.norm(away, axis=1, keepdims=True)
                if lid == "upper":  # the line ends in a flick
                    flick = rotation @ [0.10 if eye == 0 else -0.10, 0.035, -0.02]
                    line += flick * (np.clip((self.along - 0.75) / 0.25, 0, 1) ** 2)[:, None]
                lines.append(line)
        for points in _LIP_LINES:
            chain = skin[self._index["landmarks"][list(points)]]
            lines.append(self._along(chain) + rotation @ [0.0, 0.0, 0.03])
        return np.stack(lines)

    def _along(self, chain: Points) -> Points:
        """(K, 3) points on the polyline through (n, 3)."""
        at = np.linspace(0, 1, len(chain))
        return np.stack([np.interp(self.along, at, chain[:, k]) for k in range(3)], 1)

    def ribbons(self, points: Points) -> Ribbons:
        """As in ``Detail``."""
        return ribbons(points, self._width, np.full(points.shape[:2], 0.6), np.full(self.count, 0.5), self._colour)
