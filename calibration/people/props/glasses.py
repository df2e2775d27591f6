"""Glasses fitted to a head: rims around lenses before the eyes, a bridge on the nose, temples to the ears."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration.people.head.mesh import Points
from calibration.people.props.fit import HeadFit
from calibration.people.props.meshes import Mesh, bezier, ellipsoid, grid_triangles, merged, mesh, rounded, sweep, tube
from calibration.people.props.worn import FrameMaterial, GlassesShape

_TILT = np.radians(7.0)
"""Pantoscopic tilt: the lower rim is nearer to the cheek."""
_WRAP = np.radians(4.0)
_BASE_CURVE = 1.35
"""Radius of the lenses' outer surface, decimetres."""
_CLEARANCE = 0.03
_RIM_POINTS = 72


@dataclass(frozen=True)
class _Style:
    """Half sizes of a lens for an eye distance of 0.62 dm, and of its rim's section (in the plane, across it)."""

    width: float
    height: float
    power: float
    rim: tuple[float, float]
    temple: tuple[float, float]
    """Half thickness and half height of the temple at its hinge."""
    bridge_at: float = 0.35
    """Height of the bridge in half heights of the lens."""


_STYLES: dict[GlassesShape, _Style] = {
    "round": _Style(0.235, 0.228, 2.0, (0.016, 0.017), (0.014, 0.030), 0.30),
    "rectangular": _Style(0.265, 0.165, 4.2, (0.018, 0.018), (0.015, 0.040)),
    "square": _Style(0.262, 0.205, 4.0, (0.032, 0.024), (0.020, 0.060), 0.40),
    "cat-eye": _Style(0.268, 0.190, 2.8, (0.021, 0.019), (0.015, 0.042), 0.25),
    "aviator": _Style(0.275, 0.240, 2.5, (0.009, 0.010), (0.007, 0.012), 0.55),
    "half-rim": _Style(0.265, 0.170, 3.6, (0.016, 0.016), (0.014, 0.030), 0.45),
}


@dataclass(frozen=True)
class GlassesMesh:
    """Frame (slots: 0 frame, 1 nose pads, 2 hinges) and both lenses, in the unposed head's space."""

    frame: Mesh
    lenses: Mesh


def _outline(shape: GlassesShape, style: _Style) -> Points:
    """(n, 2) of a lens: x to the temple, y up, in half sizes of an eye distance of 0.62 dm."""
    angle = np.linspace(0, 2 * np.pi, _RIM_POINTS, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** (2 / style.power)
    y = np.sign(s) * np.abs(s) ** (2 / style.power)
    if shape == "cat-eye":
        y = y + 0.55 * np.clip(x, 0, 1) ** 2 * np.clip(y + 0.35, 0, 1) - 0.10 * np.clip(-x, 0, 1) * np.clip(y, 0, 1)
    elif shape == "aviator":  # a drop: the lower inner corner is cut away
        x = x * (1 - 0.10 * np.clip(-y, 0, 1)) + 0.16 * np.clip(-y, 0, 1) * np.clip(-x, 0, 1)
        y = np.where(y > 0, y * 0.82, y * (1.04 + 0.06 * x))
    elif shape in ("rectangular", "half-rim", "square"):
        x = x * (1 + 0.045 * y)
    return np.stack([x * style.width, y * style.height], 1)


class _Frame:
    """The plane of both lenses on one head."""

    def __init__(self, fit: HeadFit, shape: GlassesShape, style: _Style, size: float) -> None:
        self.scale = fit.eye_distance / 0.62 * size
        self.outline = _outline(shape, style) * self.scale
        self.centre = fit.middle + np.array([0.0, -0.025 * self.scale, 0.0])
        # Pupils sit a little to the nose of the lenses' middles.
        self.apart = max(
            fit.eye_distance / 2 + 0.015 * size, style.width * self.scale + 0.075 * fit.eye_distance / 0.62
        )
        flat = self.rim(1, self.outline), self.rim(-1, self.outline)
        rims = np.concatenate(flat)
        gap = fit.front(rims[:, 0], rims[:, 1]) - rims[:, 2]
        # The nose may touch the inner rims, so the deepest tenth does not count. Lashes need room as well.
        need = float(np.percentile(gap, 93)) + _CLEARANCE * self.scale + style.rim[1] * 0.5
        self.depth = max(need, 0.265 * self.scale)

    def rim(self, sign: int, outline: Points, forward: float = 0.0) -> Points:
        """(n, 3) of lens coordinates (n, 2) on a side, on the lens's curved surface."""
        x, y = outline[:, 0], outline[:, 1]
        sag = (x**2 + y**2) / (2 * _BASE_CURVE * self.scale)
        z = -sag - np.sin(_WRAP) * x + np.tan(_TILT) * y + forward + getattr(self, "depth", 0.0)
        return np.stack([self.centre[0] + sign * (self.apart + x), self.centre[1] + y, self.centre[2] + z], 1)


def _lens(frame: _Frame, sign: int) -> Mesh:
    steps = np.linspace(0.0, 1.0, 9)
    flat = (steps[:, None, None] * frame.outline[None]).reshape(-1, 2)
    points = frame.rim(sign, flat)
    triangles = grid_triangles(len(steps), len(frame.outline), wrap_columns=True)
    lens = mesh(points, triangles)
    normals = lens.normals * np.sign(lens.normals[:, 2:3] + 1e-9)
    normals[: len(frame.outline)] = normals[len(frame.outline) : 2 * len(frame.outline)].mean(0)
    return replace(lens, normals=normals / np.linalg.norm(normals, axis=1, keepdims=True))


def _rims(frame: _Frame, shape: GlassesShape, rim: tuple[float, float], sign: int) -> Mesh:
    half = _RIM_POINTS // 2
    radial, depth = rim[0] * frame.scale, rim[1] * frame.scale
    profile = rounded(radial, depth)
    path = frame.rim(sign, frame.outline * (1 + radial * 0.6 / np.abs(frame.outline).max()))
    outward = path - path.mean(0)
    if shape == "half-rim":
        upper = np.arange(-2, half + 3) % _RIM_POINTS
        lower = np.arange(half, _RIM_POINTS + 1) % _RIM_POINTS
        return merged(sweep(path[upper], outward[upper], profile), tube(path[lower], 0.004 * frame.scale, 6, slot=1))
    if shape == "cat-eye":  # heavier above and outside
        heavy = 1 + 0.8 * np.clip(frame.outline[:, 1] / np.abs(frame.outline[:, 1]).max(), 0, 1)
        profile = profile[None] * np.stack([heavy, np.ones_like(heavy)], 1)[:, None]
    return sweep(path, outward, profile, closed=True)


def _bridge(frame: _Frame, shape: GlassesShape, style: _Style, rim: tuple[float, float]) -> list[Mesh]:
    inner = np.flatnonzero(frame.outline[:, 0] < 0)
    heights = [style.bridge_at] if shape != "aviator" else [0.72, 0.30]
    thin = rim[0] < 0.012
    out = []
    for height in heights:
        wanted = height * np.abs(frame.outline[:, 1]).max()
        corner = frame.outline[inner[np.abs(frame.outline[inner, 1] - wanted).argmin()]][None]
        ends = [frame.rim(sign, corner, forward=0.006)[0] for sign in (1, -1)]
        lift = np.array([0.0, (0.045 if height < 0.7 else 0.0), 0.03 if not thin else 0.02]) * frame.scale
        path = bezier(np.stack([ends[0], ends[0] * 0.7 + ends[1] * 0.3 + lift, ends[0] * 0.3 + ends[1] * 0.7 + lift,
                                ends[1]]), 14)  # fmt: skip
        if thin:
            out.append(tube(path, 0.010 * frame.scale, 8))
        else:
            up = np.array([0.0, 1.0, 0.0])
            out.append(sweep(path, up, rounded(max(rim[0] * 1.3, 0.026) * frame.scale, rim[1] * 0.9 * frame.scale)))
    return out


def _pads(frame: _Frame, fit: HeadFit, *, wires: bool) -> list[Mesh]:
    out = []
    for sign in (1, -1):
        x = fit.middle[0] + sign * 0.085 * frame.scale
        y = frame.centre[1] - 0.07 * frame.scale
        z = fit.front(np.array([x]), np.array([y]))[0]
        at = np.array([x + sign * 0.012, y, z + 0.005])
        out.append(ellipsoid(at, np.array([0.014, 0.036, 0.020]) * frame.scale, slot=1, sides=12))
        if wires:
            inner = frame.outline[frame.outline[:, 0].argmin()][None] * [0.98, 0.5]
            start = frame.rim(sign, inner)[0]
            out.append(tube(bezier(np.stack([start, (start + at) / 2 - [0, 0, 0.03], at]), 8), 0.006, 6))
    return out


def _temple(frame: _Frame, fit: HeadFit, style: _Style, temple: tuple[float, float], sign: int) -> list[Mesh]:
    top = frame.outline[:, 1].max()
    outer = frame.outline[np.argmax(frame.outline[:, 0] + 0.5 * np.clip(frame.outline[:, 1], 0, 0.55 * top))][None]
    start = frame.rim(sign, outer)[0] + np.array([sign * style.rim[0] * 0.5 * frame.scale, 0.0, 0.0])
    ear = fit.ear(sign)
    height = np.ptp(ear[:, 1])
    # The arm rests where the ear's upper edge meets the head, and bends down behind it.
    rest_y, rest_z = ear[:, 1].max() - 0.20 * height, ear[:, 2].min() + 0.40 * np.ptp(ear[:, 2])
    hinge = start + np.array([sign * 0.055 * frame.scale, 0.0, -0.075 * frame.scale])
    t = np.linspace(0, 1, 26)
    y = hinge[1] + (rest_y - hinge[1]) * t
    z = hinge[2] + (rest_z - hinge[2]) * t
    surface = fit.side(sign, y, z) * sign
    ear_x = float(fit.side(sign, np.array([rest_y]), np.array([rest_z]))[0]) * sign + temple[0] + 0.012
    straight = hinge[0] * sign + (ear_x - hinge[0] * sign) * t**0.8
    x = np.maximum(straight, surface + temple[0] + 0.012)
    x = np.convolve(np.pad(x, 2, mode="edge"), np.ones(5) / 5, "valid")
    x[0] = hinge[0] * sign
    arm = np.stack([sign * x, y, z], 1)
    behind = np.array([[0, 0, 0], [0, 0, -0.16], [-sign * 0.03, -0.18, -0.26], [-sign * 0.06, -0.36, -0.30]])
    drop = bezier(arm[-1] + behind, 9)[1:]
    path = np.concatenate([start[None], (start + hinge)[None] / 2 + [sign * 0.012, 0, 0.012], arm, drop])
    run = np.linspace(0, 1, len(path))
    tall = np.interp(run, [0, 0.08, 0.55, 1.0], [0.85, 1.0, 0.75, 0.8])[:, None, None]
    profile = rounded(1.0, 1.0)[None] * np.stack(
        [np.full((len(path), 1), temple[1]) * tall[..., 0], np.full((len(path), 1), temple[0])], 2
    )
    parts = [sweep(path, np.array([0.0, 1.0, 0.0]), profile * frame.scale)]
    parts.append(
        ellipsoid(start + np.array([sign * 0.012, 0, 0.014]), np.array([0.016, 0.007, 0.007]) * frame.scale, 2, 10)
    )
    return parts


def build_glasses(fit: HeadFit, shape: GlassesShape, material: FrameMaterial, size: float) -> GlassesMesh:
    """Rims, bridge, pads, temples and lenses on one head."""
    style = _STYLES[shape]
    wire = material == "metal"
    rim = (0.011, 0.012) if wire else (max(style.rim[0], 0.014), max(style.rim[1], 0.015))
    temple = (0.008, 0.013) if wire else (max(style.temple[0], 0.012), max(style.temple[1], 0.025))
    frame = _Frame(fit, shape, style, size)
    parts = _bridge(frame, shape, style, rim) + _pads(frame, fit, wires=wire or shape == "aviator")
    for sign in (1, -1):
        parts.append(_rims(frame, shape, rim, sign))
        parts += _temple(frame, fit, style, temple, sign)
    return GlassesMesh(merged(*parts), merged(_lens(frame, 1), _lens(frame, -1)))
