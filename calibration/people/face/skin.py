"""Skin as textures, painted by the GPU from positions on the average head, so that every detail sits at one place.

Colour follows a two-pigment model (melanin and haemoglobin absorb per channel); blush, freckles, moles, stubble, lips
and wrinkles change the pigments or the height, never the colour directly. The formulas stand in ``shaders/paint.frag``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.strokes import Strokes
from calibration.people.gl import GL
from calibration.people.hair.beards import beard_shade
from calibration.people.hair.hairline import scalp_shade
from calibration.people.head.unwrap import TEXTURE_SIZE, SharedMaps
from calibration.people.identity import Identity

F32 = NDArray[np.float32]
_MOST_MOLES = 8
_RELIEF_SCALE = 0.11
"""Height differences of two texels per unit of the stored byte's range."""
_BASE_ALBEDO = np.array([0.79, 0.675, 0.575])
_NECK = np.array([0.95, 0.93, 0.93])
"""Necks see less sun than faces."""


@dataclass(frozen=True)
class SkinMaps:
    """Textures of one person on the GPU, bottom row first."""

    colour: Any
    """Square root of the linear albedo, roughness."""
    relief: Any
    """Height's differences along u and v (0.5 is flat), lips, face."""
    folds: Any
    """The same differences of what a smile (two channels) and raised brows (two) cut into the skin."""
    mean_albedo: F32
    """(3,) linear, for the neck and shoulders outside the island."""

    def release(self) -> None:
        """Free the textures."""
        for texture in (self.colour, self.relief, self.folds):
            texture.release()


def _moles(who: Identity) -> F32:
    """(8, 4): x, y, radius in decimetres, strength. The last ones are faint: everybody has small spots."""
    rng = np.random.default_rng([who.seed, 5])
    out = np.zeros((_MOST_MOLES, 4), np.float32)
    for i in range(_MOST_MOLES):
        mole = i < who.skin.moles
        radius = rng.uniform(0.007, 0.015) if mole else rng.uniform(0.004, 0.007)
        out[i] = (rng.uniform(-0.52, 0.52), rng.uniform(6.35, 7.9), radius, 0.9 if mole else 0.3)
    return out


def _uniforms(who: Identity) -> dict[str, Any]:
    skin, paint = who.skin, who.skin.make_up
    offset = np.random.default_rng([who.seed, 6]).uniform(0, 60, 3)
    return {
        "places": 0, "charts": 1, "areas": 2, "inner": 3, "scalps": 4, "seed": offset,
        "melanin": skin.melanin, "haemoglobin": skin.haemoglobin, "blush": skin.blush, "freckles": skin.freckles,
        "stubble": skin.stubble, "under_eye": skin.under_eye, "oil": skin.oil, "age": who.age,
        "veins": skin.veins, "crease": skin.crease, "lip_tint": (skin.lip_blood, skin.lip_melanin),
        "hair_colour": who.hair.colour, "beard_colour": who.beard.colour, "brow_colour": who.brow.colour,
        "brow_form": (who.brow.thickness, who.brow.arch),
        "lipstick": (*paint.lipstick, paint.lips), "shadow_powder": (*paint.shadow, paint.lids),
        "powder": (paint.blusher, paint.foundation), "neck_colour": neck_albedo(who),
    }  # fmt: skip


def _hair_shades(who: Identity, shared: SharedMaps) -> NDArray[np.uint8]:
    """(h, w, 2): how much of the hair's and of the beard's colour shows on the skin, 0..255."""
    out = np.zeros((*shared.scalp_points.shape[:2], 2), np.uint8)
    for channel, where, shade in ((0, shared.hairy, scalp_shade), (1, shared.bearded, beard_shade)):
        if channel == 1 and who.beard.style == "none":
            continue
        wear: Any = who.beard if channel else who.hair
        out[where, channel] = np.clip(shade(shared.scalp_points[where], wear, who.seed), 0, 1) * 255 + 0.5
    return out


def paint(gl: GL, who: Identity, shared: SharedMaps, strokes: Strokes) -> SkinMaps:
    """Paint one person. ``strokes`` are the hairs drawn on the skin: brows and the lids' edges."""
    context = gl.context
    colour, relief, folds = (context.texture(TEXTURE_SIZE, 4) for _ in range(3))
    forms, marks = context.texture(TEXTURE_SIZE, 4, dtype="f2"), context.texture(TEXTURE_SIZE, 4)
    scalps = gl.texture(_hair_shades(who, shared))
    context.enable_only(context.NOTHING)
    for unit, texture in enumerate((shared.places, shared.charts, shared.areas, shared.inner, scalps)):
        texture.use(unit)
    program: Any = gl.programs["paint"]
    program["moles"].write(_moles(who).tobytes())
    gl.set("paint", _uniforms(who))
    gl.fill("paint", [colour, forms, marks])
    strokes.draw(gl, colour)
    forms.use(0)
    marks.use(1)
    gl.set("relief", {"forms": 0, "marks": 1, "relief_scale": _RELIEF_SCALE})
    gl.fill("relief", [relief, folds])
    for texture in (forms, marks, scalps):
        texture.release()
    for texture in (colour, relief, folds):
        texture.build_mipmaps()
        texture.filter = (gl.moderngl.LINEAR_MIPMAP_LINEAR, gl.moderngl.LINEAR)
        texture.repeat_x = texture.repeat_y = False
    return SkinMaps(colour, relief, folds, neck_albedo(who))


def pigmented(melanin: float, blood: float) -> NDArray[np.float64]:
    """(3,) linear albedo of skin with these densities, as ``shaders/paint.frag`` has it.

    Much melanin absorbs more evenly than little: dark skin is brown, not orange (fitted to skin tones by eye).
    """
    absorbs = melanin * (np.array([0.45, 0.93, 1.45]) + melanin * np.array([0.265, 0.165, 0.03]))
    absorbs = absorbs + blood * np.array([0.07, 0.53, 0.50]) * (1 - 0.2 * np.clip(melanin - 0.6, 0, 1))
    return np.asarray(_BASE_ALBEDO * np.exp(-absorbs))


def neck_albedo(who: Identity) -> F32:
    """(3,) linear, of the skin that has no texture: neck and shoulders. The painted skin fades into it."""
    return np.asarray(pigmented(who.skin.melanin, who.skin.haemoglobin * 1.15) * _NECK, np.float32)


def read(texture: Any, level: int = 0) -> F32:
    """(H, W, 4) 0..1 of a painted texture's mip-map ``level``, bottom row first."""
    width, height = (max(1, size >> level) for size in texture.size)
    pixels = np.frombuffer(texture.read(level=level), np.uint8).reshape(height, width, 4)
    return np.asarray(pixels / np.float32(255), np.float32)
