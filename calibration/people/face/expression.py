"""What faces do before a webcam: seeded expressions as weights of ARKit's 52 face units, 0..1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Expression = dict[str, float]


def both(out: Expression, name: str, value: float, right: float = 1.0) -> None:
    """A unit that exists left and right; the right one is ``right`` times the left."""
    out[f"{name}Left"] = float(np.clip(value, 0, 1))
    out[f"{name}Right"] = float(np.clip(value * right, 0, 1))


def _sides(rng: np.random.Generator, spread: float = 0.12) -> float:
    """Right relative to left: nearly nobody is symmetric."""
    return float(np.clip(1 + rng.normal(0, spread), 0.6, 1.4))


def _add(out: Expression, name: str, value: float) -> None:
    out[name] = float(np.clip(out.get(name, 0.0) + value, 0, 1))


def _speech(rng: np.random.Generator, out: Expression, strength: float) -> None:
    """One moment of talking: about every other one is a rounded or a closed mouth."""
    sound = rng.random()
    opening = float(rng.beta(1.3, 2.4)) * 0.75 * strength
    if sound < 0.22:  # o, u, w
        out["mouthFunnel"] = float(rng.uniform(0.2, 0.7)) * strength
        out["mouthPucker"] = float(rng.uniform(0.0, 0.5)) * strength
        opening *= 0.8
    elif sound < 0.34:  # m, b, p
        opening *= 0.15
        both(out, "mouthPress", float(rng.uniform(0.1, 0.6)), _sides(rng))
        out["mouthRollLower"] = float(rng.uniform(0.0, 0.5))
    elif sound < 0.44:  # f, v
        opening *= 0.35
        out["mouthRollLower"] = float(rng.uniform(0.2, 0.6)) * strength
        both(out, "mouthUpperUp", float(rng.uniform(0.1, 0.4)), _sides(rng))
    elif sound < 0.70:  # e, i, s
        both(out, "mouthStretch", float(rng.uniform(0.1, 0.5)) * strength, _sides(rng))
        both(out, "mouthLowerDown", float(rng.uniform(0.1, 0.6)) * strength, _sides(rng))
        both(out, "mouthUpperUp", float(rng.uniform(0.0, 0.4)) * strength, _sides(rng))
        opening *= 0.7
    else:  # a
        both(out, "mouthLowerDown", float(rng.uniform(0.0, 0.5)) * strength, _sides(rng))
        opening = max(opening, 0.18 * strength)
    _add(out, "jawOpen", opening)


def _brows(rng: np.random.Generator, out: Expression, up: float, down: float) -> None:
    if up > 0:
        out["browInnerUp"] = float(np.clip(up * rng.uniform(0.6, 1.0), 0, 1))
        both(out, "browOuterUp", up, _sides(rng, 0.2))
        both(out, "eyeWide", up * float(rng.uniform(0.1, 0.5)), _sides(rng))
    if down > 0:
        both(out, "browDown", down, _sides(rng))
        both(out, "noseSneer", down * float(rng.uniform(0.0, 0.35)), _sides(rng))
        both(out, "eyeSquint", down * float(rng.uniform(0.1, 0.5)), _sides(rng))


def _smile(rng: np.random.Generator, out: Expression, amount: float) -> None:
    side = _sides(rng)
    both(out, "mouthSmile", amount, side)
    both(out, "cheekSquint", amount * float(rng.uniform(0.4, 0.8)), side)
    both(out, "eyeSquint", amount * float(rng.uniform(0.0, 0.45)), _sides(rng))
    both(out, "mouthDimple", amount * float(rng.uniform(0.0, 0.4)), _sides(rng))


def _talking(rng: np.random.Generator, out: Expression) -> None:
    _speech(rng, out, float(rng.uniform(0.6, 1.0)))
    if rng.random() < 0.35:
        _smile(rng, out, float(rng.uniform(0.1, 0.5)))
    _brows(rng, out, float(rng.normal(0, 0.35)), 0.0)
    if rng.random() < 0.2:
        _brows(rng, out, 0.0, float(rng.uniform(0.1, 0.5)))


def _smiling(rng: np.random.Generator, out: Expression) -> None:
    _smile(rng, out, float(rng.uniform(0.25, 0.95)))
    if rng.random() < 0.5:  # teeth
        both(out, "mouthUpperUp", float(rng.uniform(0.1, 0.45)), _sides(rng))
        both(out, "mouthLowerDown", float(rng.uniform(0.0, 0.4)), _sides(rng))
        out["jawOpen"] = float(rng.uniform(0.0, 0.15))


def _laughing(rng: np.random.Generator, out: Expression) -> None:
    _smile(rng, out, float(rng.uniform(0.7, 1.0)))
    out["jawOpen"] = float(rng.uniform(0.2, 0.65))
    both(out, "mouthUpperUp", float(rng.uniform(0.1, 0.5)), _sides(rng))
    both(out, "mouthLowerDown", float(rng.uniform(0.1, 0.4)), _sides(rng))
    both(out, "eyeSquint", float(rng.uniform(0.3, 0.9)), _sides(rng))
    both(out, "noseSneer", float(rng.uniform(0.0, 0.3)), _sides(rng))


def _surprised(rng: np.random.Generator, out: Expression) -> None:
    _brows(rng, out, float(rng.uniform(0.5, 1.0)), 0.0)
    both(out, "eyeWide", float(rng.uniform(0.4, 1.0)), _sides(rng))
    out["jawOpen"] = float(rng.uniform(0.1, 0.8))
    out["mouthFunnel"] = float(rng.uniform(0.0, 0.5))


def _angry(rng: np.random.Generator, out: Expression) -> None:
    _brows(rng, out, 0.0, float(rng.uniform(0.5, 1.0)))
    if rng.random() < 0.5:  # shouting
        out["jawOpen"] = float(rng.uniform(0.2, 0.7))
        both(out, "mouthUpperUp", float(rng.uniform(0.1, 0.6)), _sides(rng))
        both(out, "mouthLowerDown", float(rng.uniform(0.1, 0.6)), _sides(rng))
    else:
        both(out, "mouthPress", float(rng.uniform(0.3, 1.0)), _sides(rng))
        both(out, "mouthFrown", float(rng.uniform(0.0, 0.5)), _sides(rng))


def _sad(rng: np.random.Generator, out: Expression) -> None:
    out["browInnerUp"] = float(rng.uniform(0.4, 1.0))
    both(out, "mouthFrown", float(rng.uniform(0.3, 0.9)), _sides(rng))
    out["mouthShrugLower"] = float(rng.uniform(0.0, 0.6))


def _puckered(rng: np.random.Generator, out: Expression) -> None:
    out["mouthPucker"] = float(rng.uniform(0.4, 1.0))
    out["mouthFunnel"] = float(rng.uniform(0.0, 0.3))
    _brows(rng, out, float(rng.normal(0, 0.4)), 0.0)


def _sceptical(rng: np.random.Generator, out: Expression) -> None:
    raised, lowered = ("Left", "Right") if rng.random() < 0.5 else ("Right", "Left")
    out[f"browOuterUp{raised}"] = float(rng.uniform(0.4, 1.0))
    out[f"browDown{lowered}"] = float(rng.uniform(0.1, 0.6))
    out["mouthSmileLeft" if rng.random() < 0.5 else "mouthSmileRight"] = float(rng.uniform(0.0, 0.6))
    out[f"mouth{raised}"] = float(rng.uniform(0.0, 0.4))


def _grimace(rng: np.random.Generator, out: Expression) -> None:
    which = int(rng.integers(4))
    if which == 0:
        out["cheekPuff"] = float(rng.uniform(0.3, 1.0))
        out["mouthPucker"] = float(rng.uniform(0.0, 0.4))
    elif which == 1:  # teeth together, lips apart
        both(out, "mouthStretch", float(rng.uniform(0.4, 0.9)), _sides(rng))
        both(out, "mouthLowerDown", float(rng.uniform(0.3, 0.8)), _sides(rng))
        both(out, "mouthUpperUp", float(rng.uniform(0.1, 0.5)), _sides(rng))
        _brows(rng, out, 0.0, float(rng.uniform(0.0, 0.5)))
    elif which == 2:  # lips drawn in
        out["mouthRollLower"], out["mouthRollUpper"] = float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.3, 0.9))
    else:  # jaw and mouth to a side
        side = "Left" if rng.random() < 0.5 else "Right"
        out[f"jaw{side}"], out[f"mouth{side}"] = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.7))


def _tongue(rng: np.random.Generator, out: Expression) -> None:
    out["tongueOut"] = float(rng.uniform(0.5, 1.0))
    out["jawOpen"] = float(rng.uniform(0.35, 0.7))
    if rng.random() < 0.5:
        _smile(rng, out, float(rng.uniform(0.2, 0.6)))


def _neutral(rng: np.random.Generator, out: Expression) -> None:
    """Nothing but what everybody's face does all the time."""


_MOODS: tuple[tuple[float, Callable[[np.random.Generator, Expression], None]], ...] = (
    (0.17, _neutral),
    (0.31, _talking),
    (0.14, _smiling),
    (0.09, _laughing),
    (0.06, _surprised),
    (0.05, _angry),
    (0.03, _sad),
    (0.05, _puckered),
    (0.04, _sceptical),
    (0.04, _grimace),
    (0.02, _tongue),
)
"""How often a streamer looks so."""


def _lids(rng: np.random.Generator, out: Expression) -> None:
    """Open most of the time, half closed or shut at times, now and then one eye alone."""
    which = rng.random()
    if which < 0.55:
        both(out, "eyeBlink", float(rng.uniform(0, 0.12)), _sides(rng))
    elif which < 0.78:
        both(out, "eyeBlink", float(rng.uniform(0.12, 0.5)), _sides(rng))
    elif which < 0.96:
        both(out, "eyeBlink", float(rng.uniform(0.5, 1.0)), _sides(rng, 0.04))
    else:  # a wink pulls its cheek along
        shut, other = ("Left", "Right") if rng.random() < 0.5 else ("Right", "Left")
        out[f"eyeBlink{shut}"], out[f"eyeBlink{other}"] = float(rng.uniform(0.8, 1.0)), float(rng.uniform(0.0, 0.2))
        out[f"cheekSquint{shut}"] = max(out.get(f"cheekSquint{shut}", 0.0), float(rng.uniform(0.2, 0.7)))
    for side in ("Left", "Right"):  # nobody opens wide what is shut
        wide = f"eyeWide{side}"
        if wide in out:
            out[wide] *= 1 - out[f"eyeBlink{side}"]


def random_expression(rng: np.random.Generator) -> Expression:
    """One moment's face, without the gaze."""
    out: Expression = {}
    _MOODS[int(rng.choice(len(_MOODS), p=[share for share, _ in _MOODS]))][1](rng, out)
    _lids(rng, out)
    # Small things that everybody's face does all the time.
    for name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight", "jawForward", "mouthShrugUpper"):
        if rng.random() < 0.12:
            _add(out, name, abs(float(rng.normal(0, 0.09))))
    for name in ("browDown", "mouthPress", "mouthDimple", "mouthFrown"):
        if rng.random() < 0.15 and f"{name}Left" not in out and f"{name}Right" not in out:
            both(out, name, abs(float(rng.normal(0, 0.12))), _sides(rng, 0.3))
    return out


def look(expression: Expression, gaze: tuple[float, float]) -> None:
    """Let the lids follow a gaze (radians: to the person's left, up), as ARKit's eyeLook units do."""
    left, up = gaze
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        expression[f"eyeLookOut{side}"] = float(np.clip(sign * left / 0.6, 0, 1))
        expression[f"eyeLookIn{side}"] = float(np.clip(-sign * left / 0.6, 0, 1))
        expression[f"eyeLookDown{side}"] = float(np.clip(-up * 2.2, 0, 1))
        expression[f"eyeLookUp{side}"] = float(np.clip(up * 2.2, 0, 1))
