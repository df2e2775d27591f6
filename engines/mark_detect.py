"""Finding the invisible mark in a picture that was averaged over seconds of video.

    luma of every frame -> less its own neighbourhood, clipped -> summed over frames (all of it, and the face alone)
    -> its waves at the lattice of a tile of every size -> correlation with the key's pilot at every shift, and mirrored
    -> the best places' 64 soft bits -> the most likely number

**What the p-value means.** It bounds the probability that pictures which were made without the key give as much
evidence. The phases of a key's waves are independent of such pictures. Given the magnitudes |v| that were measured,
the correlation z = sum |v| cos(phase) / sqrt(sum |v|^2 / 2) is then a sum of independent terms with random phases, and
E exp(s cos U) = I0(s) <= exp(s^2 / 4), so P(z >= t) <= exp(-t^2 / 2), whatever the pictures are (Hoeffding's and
Chernoff's bound; no assumption of Gaussian noise). That is multiplied by everything that could have been tried: sizes,
shapes, shifts, mirror, region, ways to read, keys, pieces of the video, and for a number that was not known before all
2^32 of them. ``benchmarks/bench_mark.py`` compares it with thousands of wrong keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.mark import MAX_RADIUS, TILE_SHARE, Layout, layout, spectrum
from engines.mark_code import BITS, NUMBER_BITS, Bits, decode, encode, signs

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]
U8 = NDArray[np.uint8]

LINES = 480
"""Larger pictures are reduced to so many lines: the mark's shortest period still has 9 pixels."""
FOUND_P = 1e-6
"""A mark counts as found below this: ten times stricter than one false alarm in 10^5 videos."""
_LEAST_LOG_P = math.log(1e-30)
"""Smaller numbers say nothing: a program that does something else than it says is likelier."""
SESSION_P = 1e-3
"""Where there is a mark: a number counts as read when bits without any information give it with less than this."""
SIZES = (0.6, 1.7)
"""Tile sizes that are tried, relative to that of the whole picture: cut-outs and pictures within pictures."""
_COARSE = 0.003
"""Steps of the logarithm of the size: over half a picture's width the shortest wave slips by half a radian."""
_FINE, _SHAPES = 0.001, 3
"""Then width and height by themselves, so many steps of _FINE to either side."""
_GRID = 128
"""Shifts along each side of the tile."""
_KEEP = 3
"""Places per region that are looked at closely and read."""
_SURE = 12.0
_PAST = 20
"""A pilot this clear ends the search, so many sizes after the one where it was clearest."""
_CLEAR = math.log(1e-12)
"""A reading below this that has its number ends the search too."""
_NOISE = 0.3
"""Over the mark, per wave, as ``_Waves.apart`` assumes it."""
_HIGH_PASS = 21
_MARGIN = 5
"""Pixels by which the face's outline is drawn in: landmarks are not exact."""
_CLIP = 8.0
_REGIONS, _WAYS = 2, 3
_SIZES_TRIED = math.ceil(math.log(SIZES[1] / SIZES[0]) / _COARSE) * (2 * _SHAPES + 1) ** 2
_LOG_TRIED = math.log(_SIZES_TRIED * 2 * _GRID * _GRID * _REGIONS * _WAYS)
"""Everything that the search can try with one key, mirrored and not."""


Region = Literal["picture", "face"]
REGIONS: tuple[Region, Region] = ("picture", "face")


@dataclass(frozen=True)
class Reading:
    """What was seen with one key."""

    found: bool
    """Whether ``p_value`` is below FOUND_P."""
    number: int | None
    """The 32 bits of the session's number, when they could be read with certainty (SESSION_P)."""
    bits_matched: int
    """How many of the 64 bits, each by itself, agree with the most likely word; about 53 where there is no mark."""
    p_value: float
    """Bound of the probability of this much evidence without a mark (see the module)."""
    log_p: float
    """Natural logarithm of the bound, above 0 where it says nothing: to compare readings without a mark."""
    mirrored: bool
    size: float
    """Of the pattern relative to the picture: 1 for an uncut one, 1.11 after 5 % were cut from each side."""
    region: Region
    """Where it was clearest."""


NOTHING = Reading(
    found=False, number=None, bits_matched=0, p_value=1.0, log_p=math.inf, mirrored=False, size=1.0, region="picture"
)
"""Of a video without a picture, or without a key."""


@dataclass(frozen=True)
class _Place:
    z: float
    height: float
    width: float
    mirrored: bool
    y: float
    x: float


class Gathered:
    """Sums over frames: everything that the search needs to know of the video."""

    def __init__(self) -> None:
        self.frames = 0
        self._sums: list[F32] = []

    def add(self, luma: U8, face: F32 | None) -> None:
        """One frame: ``luma`` (H, W), and the convex outline (N, 2) of the face in it, x and y in pixels, if any.

        Frames of another shape than the first are left out.
        """
        picture, scale = luma.astype(np.float32), 1.0
        if luma.shape[0] > LINES:
            scale = LINES / luma.shape[0]
            size = (round(luma.shape[1] * scale), LINES)
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
        if not self._sums:
            self._sums = [np.zeros_like(picture) for _ in range(3)]
        if picture.shape != self._sums[0].shape:
            return
        side = _odd(_HIGH_PASS * picture.shape[0] / LINES)
        rest = np.clip(picture - cv2.blur(picture, (side, side)), -_CLIP, _CLIP)
        self._sums[0] += rest
        if face is not None and len(face) >= 3:
            self._add_face(picture, face * scale, side)
        self.frames += 1

    def _add_face(self, picture: F32, outline: NDArray[Any], side: int) -> None:
        """Less its neighbourhood as far as that is in the face too: what stands beside it may be no part of the
        marked picture.
        """
        inside = np.zeros(picture.shape, np.uint8)
        cv2.fillConvexPoly(inside, np.rint(outline).astype(np.int32), (1,))
        inside = np.asarray(cv2.erode(inside, np.ones((_MARGIN, _MARGIN), np.uint8)), np.uint8)
        x, y, width, height = cv2.boundingRect(inside)
        box = slice(y, y + height), slice(x, x + width)
        if not width or not height:
            return
        weight, part = inside[box].astype(np.float32), picture[box]
        near = [cv2.blur(v, (side, side), borderType=cv2.BORDER_CONSTANT) for v in (part * weight, weight)]
        rest = np.clip(part - near[0] / np.maximum(near[1], 1e-3), -_CLIP, _CLIP)
        self._sums[1][box] += rest * weight
        self._sums[2][box] += weight

    def include(self, other: Gathered) -> None:
        """The frames of another piece too; left out if they have another shape."""
        if not self._sums:
            self._sums = [np.zeros_like(part) for part in other._sums]
        if other._sums and other._sums[0].shape == self._sums[0].shape:
            for own, part in zip(self._sums, other._sums, strict=True):
                np.add(own, part, out=own)
            self.frames += other.frames

    def regions(self) -> list[tuple[F32, F32]]:
        """The picture, its busy places turned down, and the face; each with the share of the mark that is left in it
        at every pixel, but for a factor.
        """
        if not self._sums or not self.frames:
            return []
        mean = self._sums[0] / self.frames
        side = _odd(25 * mean.shape[0] / LINES)
        weight = 1.0 / np.sqrt(cv2.blur(mean * mean, (side, side)) + 0.15)
        face, inside = (part / self.frames for part in self._sums[1:])
        return [(_f32(mean * weight), _f32(weight)), (_f32(face), _f32(inside))]


def read(
    video: Gathered, secrets: Sequence[bytes], known: Iterable[int] = (), *, pieces: int = 1
) -> tuple[Reading, int] | None:
    """The best reading and the index of its key; None without frames or keys.

    ``known``: numbers that are looked for besides, for example those of this machine's sessions; a weak mark is found
    more easily so. ``pieces``: how many pieces of the video are looked at in all. Raises DataError for a key that is
    none.
    """
    regions = video.regions()
    if not regions or not secrets:
        return None
    extra = math.log(len(secrets) * max(pieces, 1))
    numbers = sorted(set(known))
    seen = [(name, _Waves(*region)) for name, region in zip(REGIONS, regions, strict=True) if region[0].any()]
    readings = [_read_one(seen, layout(secret), numbers, extra) for secret in secrets]
    best = min(range(len(readings)), key=lambda k: readings[k].log_p)
    return readings[best], best


def _read_one(regions: Sequence[tuple[Region, _Waves]], plan: Layout, known: Sequence[int], extra: float) -> Reading:
    best = NOTHING
    for name, waves in regions:
        for place in _places(waves, plan):
            reading = replace(_interpret(waves, plan, place, known, extra), region=name)
            best = min(best, reading, key=lambda r: r.log_p)
        if best.log_p < _CLEAR and best.number is not None:
            break
    return best


class _Waves:
    """Fourier sums of one picture at the lattice of any tile: no resampling, so sizes may be as fine as wanted."""

    def __init__(self, picture: F32, weight: F32) -> None:
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        self.height = picture.shape[0]
        self._top, self._left = int(rows[0]), int(columns[0])
        part = slice(self._top, int(rows[-1]) + 1), slice(self._left, int(columns[-1]) + 1)
        self._part = _f32(picture[part] - picture[part].mean())
        self._weight = _f32(weight[part])
        self._tables: dict[tuple[float, float], C128] = {}
        """Of sizes that were asked for already: they serve every key. 10 kB each."""

    def both(self, height: float, width: float, plan: Layout) -> tuple[C128, C128]:
        """(n,) of the plan's waves in a tile of so many pixels, equalised (``_equal``): as seen, and in a mirror."""
        if (height, width) not in self._tables:
            self._tables[height, width] = self._table(self._part, height, width, MAX_RADIUS)
        table = self._tables[height, width]
        return _equal(_at(table, plan.places), plan), _equal(_at(table, plan.places * (1, -1)), plan)

    def apart(self, height: float, width: float, plan: Layout, *, mirrored: bool) -> C128:
        """(n,) of the plan's waves, as ``both``, but each by itself.

        In a part of the picture that is hardly larger than a tile, waves of neighbouring lengths look alike, and each
        sum holds some of the others. How much, the part's shape says, whatever the key is: v = A s with
        A the Fourier sums of the weight at the differences and sums of the lattice's places. Undone as far as noise
        allows (the linear least squares estimate for noise that is windowed as the mark is).
        """
        places = plan.places * ((1, -1) if mirrored else (1, 1))
        seen = _at(self._table(self._part, height, width, MAX_RADIUS), places)
        window = self._table(self._weight, height, width, 2 * MAX_RADIUS)
        less, more = (_at(window, places[:, None] + sign * places[None]) for sign in (-1, 1))
        system = np.block([[(less + more).real, (more - less).imag], [(less + more).imag, (less - more).real]])
        system[np.diag_indices_from(system)] += _NOISE * np.abs(window[2 * MAX_RADIUS, 0])
        solved = np.linalg.solve(system, np.concatenate([seen.real, seen.imag]))
        return _equal(solved[: len(seen)] + 1j * solved[len(seen) :], plan)

    def _table(self, values: F32, height: float, width: float, most: int) -> C128:
        """(2 ``most`` + 1, ``most`` + 1) Fourier sums at -most..most and 0..most periods in a tile."""
        y = np.arange(self._part.shape[0]) + self._top
        x = np.arange(self._part.shape[1]) + self._left
        across = np.exp(-2j * np.pi / width * np.outer(x, np.arange(most + 1))).astype(np.complex64)
        down = np.exp(-2j * np.pi / height * np.outer(np.arange(-most, most + 1), y)).astype(np.complex64)
        # A real matrix by two real halves: numpy would widen the picture to complex numbers.
        sums = down @ (values @ across.real + 1j * (values @ across.imag))
        return np.asarray(sums, np.complex128)


def _at(table: C128, places: NDArray[np.int64]) -> C128:
    """Of a ``_table`` at any (..., 2) places: those of the other half of the plane are the conjugates."""
    most, left = table.shape[1] - 1, places[..., 1] < 0
    found = table[np.where(left, -places[..., 0], places[..., 0]) + most, np.abs(places[..., 1])]
    return np.asarray(np.where(left, np.conj(found), found), np.complex128)


def _equal(waves: C128, plan: Layout) -> C128:
    """Magnitudes without the trend that pictures have, and outliers limited; phases as they are.

    Depends on magnitudes alone, so the bound of the p-value holds.
    """
    power = np.abs(waves) ** 2 + 1e-12
    length = np.log(np.hypot(plan.places[:, 0], plan.places[:, 1]))
    trend = np.exp(np.polyval(np.polyfit(length, np.log(power), 2), length))
    return np.asarray(waves / np.sqrt(trend + 0.5 * power), np.complex128)


def _places(waves: _Waves, plan: Layout) -> list[_Place]:
    """Where the pilot is clearest: at every size first, then closely around the best."""
    whole = waves.height * TILE_SHARE
    steps = np.arange(math.log(SIZES[0]), math.log(SIZES[1]), _COARSE)
    found: list[_Place] = []
    clearest, looked_since = 0.0, 0
    for size in np.exp(steps[np.argsort(np.abs(steps), kind="stable")]).tolist():
        found += _look(waves, plan, size * whole, size * whole)
        looked_since += 1
        if (now := max(place.z for place in found[-2:])) > clearest:
            clearest, looked_since = now, 0
        if clearest > _SURE and looked_since >= _PAST:  # a strong mark shows at neighbouring sizes too
            break
    found.sort(key=lambda place: -place.z)
    return [_closer(waves, plan, place) for place in _apart(found)[:_KEEP]]


def _apart(found: Sequence[_Place]) -> list[_Place]:
    """Best first, without the neighbours of a better one, which the closer look covers."""
    kept: list[_Place] = []
    for place in found:
        near = (abs(math.log(place.height / k.height)) < 2 * _COARSE and place.mirrored == k.mirrored for k in kept)
        if not any(near):
            kept.append(place)
    return kept


def _closer(waves: _Waves, plan: Layout, place: _Place) -> _Place:
    best = place
    steps = (_FINE * np.arange(-_SHAPES, _SHAPES + 1)).tolist()
    for down in steps:
        for across in steps:
            looks = _look(waves, plan, place.height * math.exp(down), place.width * math.exp(across))
            best = max(best, looks[int(place.mirrored)], key=lambda p: p.z)
    return best


def _look(waves: _Waves, plan: Layout, height: float, width: float) -> list[_Place]:
    """The best shift of the pilot, as seen and in a mirror."""
    pilot = plan.bit < 0
    ky, kx = plan.places[pilot, 0] % _GRID, plan.places[pilot, 1] % _GRID
    places = []
    for mirrored, seen in enumerate(waves.both(height, width, plan)):
        lattice = np.zeros((_GRID, _GRID), np.complex128)
        lattice[ky, kx] = seen[pilot] * np.conj(plan.waves[pilot])
        surface = np.fft.ifft2(lattice).real * _GRID * _GRID
        at = int(surface.argmax())
        z = float(surface.flat[at]) / _norm(seen[pilot])
        y, x = divmod(at, _GRID)
        places.append(_Place(z, height, width, bool(mirrored), y / _GRID, x / _GRID))
    return places


def _norm(waves: C128) -> float:
    return math.sqrt(float((np.abs(waves) ** 2).sum()) / 2.0) + 1e-12


def _interpret(waves: _Waves, plan: Layout, place: _Place, known: Sequence[int], extra: float) -> Reading:
    """Read the bits there, and say how likely all this is by chance."""
    seen = waves.apart(place.height, place.width, plan, mirrored=place.mirrored)
    seen = seen * np.exp(2j * np.pi * (plan.places[:, 0] * place.y + plan.places[:, 1] * place.x))
    aligned = (seen * np.conj(plan.waves)).real
    carriers = plan.bit >= 0
    soft = np.bincount(plan.bit[carriers], weights=aligned[carriers], minlength=BITS).astype(np.float64)
    number, word, lead = decode(soft)
    norm = _norm(seen[carriers])

    def together(bits: Bits) -> float:
        return float((seen * np.conj(spectrum(plan, bits))).real.sum()) / _norm(seen)

    ways = [_LOG_TRIED - place.z**2 / 2, _LOG_TRIED + NUMBER_BITS * math.log(2) - max(together(word), 0.0) ** 2 / 2]
    certain = _certain(soft, signs(word), lead, NUMBER_BITS * math.log(2), norm)
    if known:
        words = np.stack([encode(n) for n in known])
        agreement = signs(words) @ soft
        best = int(np.argmax(agreement))
        ways.append(_LOG_TRIED + math.log(len(known)) - max(together(words[best]), 0.0) ** 2 / 2)
        lead = float(agreement[best] - np.max(np.delete(agreement, best), initial=-math.inf))
        if not certain and _certain(soft, signs(words[best]), lead, math.log(len(known)), norm):
            number, word, certain = known[best], words[best], True
    log_p = min(ways) + extra
    p_value = math.exp(max(min(0.0, log_p), _LEAST_LOG_P))
    found = p_value < FOUND_P
    return Reading(
        found,
        number if found and certain else None,
        int(((soft > 0) == (word > 0)).sum()),
        p_value,
        log_p,
        place.mirrored,
        place.height / (waves.height * TILE_SHARE),
        "picture",
    )


def _certain(soft: F64, word: F64, lead: float, log_words: float, norm: float) -> bool:
    """Whether ``word`` is what ``soft`` says, and no other of exp(``log_words``) words, with SESSION_P to the contrary.

    Both must hold: bits without information would agree less (the bound of the module's head), and the next best word
    is by so much less likely, with noise as strong as the bits' own disagreement.
    """
    agreement = float(word @ soft)
    if log_words - max(agreement / norm, 0.0) ** 2 / 2 >= math.log(SESSION_P):
        return False
    mean = agreement / BITS
    variance = max(float(np.mean(soft**2)) - mean**2, 1e-12)
    return mean * lead / variance > -math.log(SESSION_P)


def _f32(values: NDArray[Any]) -> F32:
    return np.ascontiguousarray(values, np.float32)


def _odd(length: float) -> int:
    return max(3, round(length) | 1)
