"""What leaves the computer when there is no swap.

Every way in which a frame can end without a swap has a ``Reason``, and a named ``FailurePolicy`` decides what is sent
instead. Nothing here is learnt, compiled or loaded while running: the veil is two resizes and a blur of OpenCV into a
picture that was blanked before, so that even an exception in the middle leaves no face behind.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import cv2
import numpy as np

from engines.errors import SettingsError
from engines.picture import decode
from engines.types import U8, Frame

VEIL_CELLS = 16
"""The veil keeps this many cells along the longer side of the picture. People stop recognising a face at about 16 cells
across it (Harmon and Julesz 1973, Science 180; Bachmann 1991, Eur. J. Cogn. Psych. 3(1)), networks a little later; a
face that fills the whole picture has fewer here, and the cells are blurred into each other besides."""
BLANK_LEVEL = 40
"""Grey of a picture about which nothing is known."""
CARD_TEXT = "camera paused"


class FailurePolicy(str, Enum):
    """What is sent when there is no swap."""

    VEIL = "veil"
    """The whole picture, blurred beyond recognition. The default."""
    HOLD = "hold"
    """The last good picture for a bounded time, then the veil."""
    CARD = "card"
    """A still picture."""
    PASSTHROUGH = "passthrough"
    """THE WEARER'S OWN PICTURE. Never chosen by default: it must be asked for by name."""


class Reason(str, Enum):
    """Why a frame has no swap."""

    NO_FACE = "no_face"
    DETECTOR_ERROR = "detector_error"
    RUNTIME_ERROR = "runtime_error"
    BAD_OUTPUT = "bad_output"
    """The network gave NaN or infinite values."""
    EMPTY_MASK = "empty_mask"
    """A face was found, but the swap would not cover it."""
    LATE = "late"
    """The deadline was missed."""
    SOURCE_LOST = "source_lost"
    CONSENT = "consent"
    """The consent record lapsed or was revoked: not even the last good picture may be shown on."""
    VEILED = "veiled"
    """The user asked for the veil: whatever the policy is."""
    STANDBY = "standby"
    """The user stopped the stream: a still picture, whatever the policy is."""


class PolicyGate:
    """Fills the outgoing picture when there is no swap, and counts why.

    ``size`` is (width, height) of the outgoing picture; all buffers are made at once. ``card`` is a picture file for
    policy ``card``; without one a plain card is drawn. Belongs to one thread. Raises SettingsError for a card that
    is no picture.
    """

    def __init__(
        self, policy: FailurePolicy, *, size: tuple[int, int], hold_s: float = 1.0, card: Path | None = None
    ) -> None:
        if not hold_s >= 0.0:
            raise SettingsError(f"hold_s {hold_s} must be 0 or more seconds", hint="1.0 is the default")
        width, height = size
        if width < 1 or height < 1:
            raise SettingsError(f"a picture of {width} x {height} has no pixels", hint="give the size of the output")
        self.policy = FailurePolicy(policy)
        self.counts: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self._hold_ns = int(hold_s * 1e9)
        self._shape = (height, width, 3)
        self._card = make_card(size, card) if self.policy is FailurePolicy.CARD else None
        self._last: U8 | None = np.zeros(self._shape, np.uint8) if self.policy is FailurePolicy.HOLD else None
        self._last_ns: int | None = None

    def remember(self, out: U8, now_ns: int) -> None:
        """Keep a copy of a good outgoing picture for ``hold``; under other policies this does and costs nothing."""
        if self._last is not None and out.shape == self._shape:
            np.copyto(self._last, out)
            self._last_ns = now_ns

    def apply(self, out: U8, frame: Frame | None, reason: Reason, now_ns: int) -> FailurePolicy:
        """Fill all of ``out`` (H, W, 3) uint8 and count ``reason``. Returns what was shown in the end.

        ``frame`` is the picture without a swap (None: there is none); it is never written to, and ``out`` must not
        share its memory. ``now_ns`` is the same clock as that of :meth:`remember`. Under ``passthrough``, and nowhere
        else in the program, the frame's own pixels are the picture that is sent.
        """
        self.counts[reason] += 1
        pixels = None if frame is None else frame.pixels
        if pixels is not None and np.may_share_memory(out, pixels):
            raise SettingsError(
                "the outgoing picture is the frame's own memory", hint="give the gate a buffer of its own"
            )
        # First of all nothing of any earlier content is left, whatever happens below.
        out.fill(BLANK_LEVEL)
        if reason is Reason.CONSENT:
            self._last_ns = None
        if reason is Reason.STANDBY:
            _write_centred(out, CARD_TEXT)
            return FailurePolicy.CARD
        if reason is Reason.VEILED:
            self._last_ns = None
            if pixels is not None:
                veil(pixels, out)
            return FailurePolicy.VEIL
        if self.policy is FailurePolicy.CARD and self._card is not None and out.shape == self._card.shape:
            np.copyto(out, self._card)
            return FailurePolicy.CARD
        if self.policy is FailurePolicy.PASSTHROUGH and pixels is not None and pixels.shape == out.shape:
            np.copyto(out, pixels)
            return FailurePolicy.PASSTHROUGH
        if self._last is not None and self._may_hold(now_ns) and out.shape == self._shape:
            np.copyto(out, self._last)
            return FailurePolicy.HOLD
        if pixels is not None:
            veil(pixels, out)
        return FailurePolicy.VEIL

    def _may_hold(self, now_ns: int) -> bool:
        """Whether there is a good picture that is young enough; a clock that ran backwards counts as too old."""
        return self._last_ns is not None and 0 <= now_ns - self._last_ns <= self._hold_ns


def veil(pixels: U8, dst: U8) -> None:
    """Blur ``pixels`` (H, W, 3) beyond recognition into ``dst`` (any size, 3 channels).

    Averaged into cells (VEIL_CELLS along the longer side), the cells into their neighbours, and drawn up smoothly: what
    was finer than a cell is gone for good, not merely hidden. What is no picture of 8 bits in 3 channels gives grey.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype != np.uint8:
        dst.fill(BLANK_LEVEL)
        return
    height, width = pixels.shape[:2]
    longer = max(height, width)
    # At least 8 pixels a cell: a tiny picture must not come through whole.
    cells = min(VEIL_CELLS, max(1, longer // 8))
    grid = (max(1, round(width * cells / longer)), max(1, round(height * cells / longer)))
    small = cv2.blur(cv2.resize(pixels, grid, interpolation=cv2.INTER_AREA), (3, 3))
    cv2.resize(small, (dst.shape[1], dst.shape[0]), dst=dst, interpolation=cv2.INTER_LINEAR)


def make_card(size: tuple[int, int], path: Path | None) -> U8:
    """The still picture of policy ``card`` at (width, height): a file's, fitted in on grey, or a plain one.

    Raises SettingsError when ``path`` cannot be read as a picture.
    """
    width, height = size
    card: U8 = np.full((height, width, 3), BLANK_LEVEL, np.uint8)
    if path is None:
        _write_centred(card, CARD_TEXT)
        return card
    try:
        picture = decode(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"the card {path} cannot be read: {error.strerror}", hint="name a picture file") from error
    except ValueError as error:
        raise SettingsError(f"the card {path} is no picture: {error}", hint="use a PNG, JPEG or WebP file") from error
    scale = min(width / picture.shape[1], height / picture.shape[0])
    fit_w, fit_h = max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    x, y = (width - fit_w) // 2, (height - fit_h) // 2
    card[y : y + fit_h, x : x + fit_w] = cv2.resize(picture, (fit_w, fit_h), interpolation=method)
    return card


def _write_centred(card: U8, text: str) -> None:
    """Light letters over a third of the width."""
    height, width = card.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = width / 3.0 / cv2.getTextSize(text, font, 1.0, 1)[0][0]
    thickness = max(1, round(scale * 1.5))
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, thickness)
    origin = ((width - text_width) // 2, (height + text_height) // 2)
    cv2.putText(card, text, origin, font, scale, (200, 200, 200), thickness, cv2.LINE_AA)
