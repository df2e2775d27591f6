"""Calibration to the wearer: their own mean code and range, brought to what the decoders were trained on.

An encoder that never saw a wearer shifts their codes a little: the shape of the face, skin and camera leak in. So a
neutral wearer may come out with raised brows, and a wearer of small movements hardly moves the persona. Both are put
right by one number each per coordinate of the code, inside the shipped graph:

    code' = code * gain + shift

numpy only; the codes are the output "code" of the graph, which the calibration does not change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import DataError
from engines.files import write_atomic
from engines.types import F32, F64

SCHEMA_VERSION = 1
MAX_GAIN = 1.25
"""Gains stay between 1 / MAX_GAIN and MAX_GAIN. A wearer who hardly moved says little about their range, and noise of
the code is amplified along with it."""
MAX_SHIFT_SPREADS = 3.0
"""A neutral code is moved by at most so many spreads of the reference: what lies beyond is a face that was not neutral,
or one in a light or pose of its own, and to take it for the wearer's nature would spoil every other face."""
TRUSTED_CODES = 60
"""So many codes, two seconds of video, count half: fewer leave the range nearer to what it was."""
_BROKEN = "delete the file and calibrate again"
_FIELDS = frozenset({"schema_version", "gain", "shift", "encoder_sha256"})


@dataclass(frozen=True, slots=True, eq=False)
class WearerCalibration:
    """One wearer's gain and shift for the codes of one encoder. Raises DataError for numbers that cannot be used."""

    gain: F32
    """(C,) positive."""
    shift: F32
    """(C,)"""
    encoder_sha256: str | None = None
    """The encoder whose codes these are (``Manifest.encoder_sha256``); None: not known."""

    def __post_init__(self) -> None:
        if self.gain.ndim != 1 or self.gain.shape != self.shift.shape or not len(self.gain):
            raise DataError(f"gain {self.gain.shape} and shift {self.shift.shape} are no calibration", hint=_BROKEN)
        if not (np.isfinite(self.gain).all() and np.isfinite(self.shift).all() and (self.gain > 0).all()):
            raise DataError("a calibration holds numbers that are not finite, or a gain of zero or less", hint=_BROKEN)

    def apply(self, codes: NDArray[np.floating]) -> F32:
        """(..., C) codes as the decoder gets them."""
        return np.asarray(codes * self.gain + self.shift, np.float32)

    def save(self, path: Path) -> None:
        """Write JSON; the file appears complete or not at all. Raises OSError."""
        fields = {
            "schema_version": SCHEMA_VERSION, "encoder_sha256": self.encoder_sha256,
            "gain": [float(v) for v in self.gain], "shift": [float(v) for v in self.shift],
        }  # fmt: skip
        write_atomic(path, (json.dumps(fields, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> WearerCalibration:
        """Read what :meth:`save` wrote. Raises DataError for a file that is missing, damaged or foreign."""
        try:
            fields = json.loads(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}", hint="calibrate first") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name} is damaged: {error}", hint=_BROKEN) from error
        if not isinstance(fields, dict) or fields.keys() != _FIELDS:
            raise DataError(f"{path.name} is no calibration of a wearer", hint=_BROKEN)
        if fields["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{path.name} has format {fields['schema_version']!r:.20}, this version reads {SCHEMA_VERSION}",
                hint="update personacam, or calibrate again",
            )
        encoder = fields["encoder_sha256"]
        if encoder is not None and not isinstance(encoder, str):
            raise DataError(f"{path.name} is damaged: encoder_sha256 is no text", hint=_BROKEN)
        return cls(_numbers(fields["gain"], path), _numbers(fields["shift"], path), encoder)


def _numbers(value: object, path: Path) -> F32:
    if not isinstance(value, list) or not all(type(item) in (int, float) for item in value):
        raise DataError(f"{path.name} is damaged: it holds something else than numbers", hint=_BROKEN)
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused with the rest
            return np.array(value, np.float32)
    except OverflowError as error:
        raise DataError(f"{path.name} is damaged: {error}", hint=_BROKEN) from error


def reference_codes(wearers: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> tuple[F32, F32]:
    """What ``calibrate_codes`` refers to, from (neutral codes (N, C), all codes (M, C)) of each training wearer.

    Returns mean (C,): of the wearers' mean neutral codes; and spread (C,): the root mean square of the wearers'
    spreads, each the RMS of all codes around that wearer's own mean neutral code. Every wearer counts alike. Raises
    DataError for codes that do not fit each other or are not finite.
    """
    if not wearers:
        raise DataError("no wearer to take reference codes from", hint="give the codes of at least one wearer")
    means: list[F64] = []
    squares: list[F64] = []
    for neutral, codes in wearers:
        middle, spread = _middle_and_spread(neutral, codes)
        if means and middle.shape != means[0].shape:
            raise DataError("wearers with codes of different sizes", hint="take all codes from one encoder")
        means.append(middle)
        squares.append(spread**2)
    return np.mean(means, axis=0).astype(np.float32), np.sqrt(np.mean(squares, axis=0)).astype(np.float32)


def calibrate_codes(
    neutral: NDArray[np.floating],
    mean: NDArray[np.floating],
    spread: NDArray[np.floating],
    codes: NDArray[np.floating],
    *,
    encoder_sha256: str | None = None,
) -> WearerCalibration:
    """From this wearer's codes, ``neutral`` (N, C) and all (M, C), and a reference ``mean`` and ``spread`` (C,).

    Coordinate by coordinate, with n the wearer's mean neutral code, s the RMS of all their codes around n, and
    w = M / (M + TRUSTED_CODES):

        gain  = clip((spread / s) ** w, 1 / MAX_GAIN, MAX_GAIN)
        n'    = n + clip(mean - n, -MAX_SHIFT_SPREADS * spread, MAX_SHIFT_SPREADS * spread)
        shift = n' - gain * n

    So n goes to n', which is the reference's mean unless that is far, and what deviates from n is stretched or shrunk.
    A coordinate that never moves keeps gain 1. Raises DataError for codes that do not fit each other or are not finite.
    """
    middle, own = _middle_and_spread(neutral, codes)
    if mean.shape != middle.shape or spread.shape != middle.shape:
        raise DataError(f"a reference of {mean.shape} for codes of {middle.shape}", hint="take both from one encoder")
    if not (np.isfinite(mean).all() and np.isfinite(spread).all() and (spread > 0).all()):
        raise DataError("the reference is not finite, or its spread not positive", hint="take it from reference_codes")
    target, range_ = np.asarray(mean, np.float64), np.asarray(spread, np.float64)
    trust = len(codes) / (len(codes) + TRUSTED_CODES)
    ratio = np.divide(range_, own, out=np.ones_like(own), where=own > 1e-6 * range_)
    gain = np.clip(ratio**trust, 1 / MAX_GAIN, MAX_GAIN)
    reach = MAX_SHIFT_SPREADS * range_
    shift = middle + np.clip(target - middle, -reach, reach) - gain * middle
    return WearerCalibration(gain.astype(np.float32), shift.astype(np.float32), encoder_sha256)


def _middle_and_spread(neutral: NDArray[np.floating], codes: NDArray[np.floating]) -> tuple[F64, F64]:
    """A wearer's mean neutral code and the RMS of all their codes around it, both (C,)."""
    if neutral.ndim != 2 or codes.ndim != 2 or not len(neutral) or not len(codes) or neutral.shape[1] != codes.shape[1]:
        raise DataError(
            f"neutral codes {neutral.shape} and codes {codes.shape} do not fit", hint="give (N, C) and (M, C) codes"
        )
    middle = neutral.astype(np.float64).mean(axis=0)
    spread = np.sqrt(((codes.astype(np.float64) - middle) ** 2).mean(axis=0))
    if not (np.isfinite(middle).all() and np.isfinite(spread).all()):
        raise DataError("the wearer's codes are not finite", hint="leave out frames in which the network failed")
    return middle, spread
