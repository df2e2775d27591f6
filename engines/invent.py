"""Faces that belong to nobody: a point of the identity space, at once an animatable decoder.

    bundle = load_bundle(shipped_universal())
    space = fit(bundle.universal.people.vectors)
    face = propose(bundle.universal.trunk, space, seed=7, sliders={0: 1.5})
    pictures = shown(face.decoder, sample_codes(bundle))

Which of them may be used is not decided here: who makes a persona of one compares it with enrolled people first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engines.augment import to_pictures
from engines.errors import SettingsError
from engines.film import FilmDecoder
from engines.identity_space import IdentitySpace
from engines.losses import luma
from engines.network import PersonaDecoder
from engines.types import U8
from engines.universal_networks import persona_decoder

MOST_DEVIATIONS = 3.0
"""How far a slider goes: beyond, hardly any of the people lies and faces fall apart."""
_GREY = 0.75
_MEASURED_AT = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class InventedFace:
    """One face of the identity space."""

    seed: int
    attempt: int
    """0 for the first sample of the seed."""
    coordinates: Tensor
    """(R,) standard deviations along the components."""
    decoder: PersonaDecoder


def slider_index(name: str, space: IdentitySpace) -> int:
    """Component of a slider's name: "pc1" is the first. Raises SettingsError for a name that is none."""
    number = name.removeprefix("pc")
    if not name.startswith("pc") or not number.isdecimal() or not 1 <= int(number) <= space.size:
        raise SettingsError(f"there is no slider {name!r}", hint=f"sliders are called pc1 to pc{space.size}")
    return int(number) - 1


def propose(
    trunk: FilmDecoder, space: IdentitySpace, *, seed: int, attempt: int = 0, spread: float = 1.0,
    sliders: Mapping[int, float] | None = None,
) -> InventedFace:  # fmt: skip
    """The ``attempt``-th face of a seed, with some coordinates (by number, in standard deviations) set by hand.

    The same arguments give the same face. Raises SettingsError for sliders beyond MOST_DEVIATIONS, and as
    ``IdentitySpace`` does.
    """
    # One seed has many samples, and no two seeds share one.
    drawn = int(np.random.SeedSequence([seed, attempt]).generate_state(1, np.uint64)[0])
    coordinates = space.coordinates(space.sample(drawn, spread))
    for index, value in (sliders or {}).items():
        if not abs(value) <= MOST_DEVIATIONS:  # written so that NaN fails
            raise SettingsError(
                f"slider pc{index + 1} cannot be {value:g}", hint=f"choose -{MOST_DEVIATIONS:g} to {MOST_DEVIATIONS:g}"
            )
        coordinates[index] = value
    return InventedFace(seed, attempt, coordinates, persona_decoder(trunk, space.vector(coordinates)))


@torch.no_grad()
def shown(decoder: PersonaDecoder, codes: Tensor) -> U8:
    """(N, T, T, 3) BGR: what a decoder makes of codes (N, C), on grey outside of its mask."""
    face, mask = decoder(codes)
    cover = torch.sigmoid(mask)
    return to_pictures(face.clamp(0, 1) * cover + _GREY * (1 - cover))


def slider_effects(trunk: FilmDecoder, space: IdentitySpace, code: Tensor, most: int = 8) -> list[dict[str, object]]:
    """What the first sliders do, measured on a neutral code (C,): from -2 to 2 standard deviations.

    Of each: name, share of the people's variance, and the change of lightness (luma) and warmth (red less blue) of the
    visible face, of 255, and of its width and height, in percent of the mean face's.
    """
    middle = _measures(trunk, space.vector(torch.zeros(space.size)), code)
    effects: list[dict[str, object]] = []
    for index in range(min(most, space.size)):
        ends = []
        for value in (-_MEASURED_AT, _MEASURED_AT):
            coordinates = torch.zeros(space.size)
            coordinates[index] = value
            ends.append(_measures(trunk, space.vector(coordinates), code))
        change = {name: ends[1][name] - ends[0][name] for name in middle}
        effects.append(
            {
                "name": f"pc{index + 1}",
                "share": round(float(space.explained[index]), 4),
                "lightness": round(255 * change["lightness"], 1),
                "warmth": round(255 * change["warmth"], 1),
                "width_pct": round(100 * change["width"] / max(middle["width"], 1e-6), 1),
                "height_pct": round(100 * change["height"] / max(middle["height"], 1e-6), 1),
            }
        )
    return effects


@torch.no_grad()
def _measures(trunk: FilmDecoder, vector: Tensor, code: Tensor) -> dict[str, float]:
    """Of the visible face; lengths are fractions of the picture's side, each the mean of the mask's largest tenth."""
    face, logits = persona_decoder(trunk, vector)(code[None])
    mask = torch.sigmoid(logits)
    weight = mask.sum().clamp_min(1e-6)
    picture = face.clamp(0, 1)
    tenth = max(1, mask.shape[-1] // 10)
    rows, columns = mask[0, 0].mean(dim=1), mask[0, 0].mean(dim=0)
    return {
        "lightness": float((luma(picture) * mask).sum() / weight),
        "warmth": float(((picture[:, :1] - picture[:, 2:]) * mask).sum() / weight),
        "width": float(rows.topk(tenth).values.mean()),
        "height": float(columns.topk(tenth).values.mean()),
    }
