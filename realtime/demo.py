"""The demo: the shipped wearer through the real pipeline, and how near the swap comes to the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calibration.demo_truth import PersonaTruth, load_truth
from engines.errors import SettingsError
from engines.metrics import mask_iou, psnr_masked_db
from engines.types import Frame, Swap
from realtime.config import DEFAULT_PERSONA, Settings
from realtime.session import Result, Say, demo_clip, run_session


class Scorer:
    """Compares each raw swap with the persona's true render of the same frame, in the aligned crop.

    PSNR is taken over all compared pixels together (mean squared error pooled over frames, inside the true mask),
    the intersection over union as the mean over frames.
    """

    def __init__(self, truth: PersonaTruth) -> None:
        self._rows = {int(frame): row for row, frame in enumerate(truth.frames)}
        self._truth = truth
        self.psnr: list[float] = []
        self.iou: list[float] = []

    def watch(self, frame: Frame, swap: Swap) -> None:
        """For ``Pipeline``: score the frames that have a truth."""
        row = self._rows.get(frame.index)
        if row is None:
            return
        size = swap.pixels.shape[:2]
        truth, mask = self._truth.crops[row], self._truth.masks[row]
        if truth.shape[:2] != size:
            truth, mask = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (truth, mask))
        self.psnr.append(psnr_masked_db(swap.pixels, np.asarray(truth, np.uint8), mask > 127))
        self.iou.append(mask_iou(swap.mask > 127, mask > 127))

    def quality(self) -> dict[str, float]:
        """The JSON object under "quality"."""
        if not self.psnr:
            raise SettingsError("no frame of the demo was swapped, so there is no score", hint="run personacam doctor")
        return {
            "psnr_masked_db": round(float(np.mean(self.psnr)), 3),
            "psnr_masked_db_min": round(float(np.min(self.psnr)), 3),
            "mask_iou": round(float(np.mean(self.iou)), 4),
            "frames": len(self.psnr),
        }


def run_demo(out: Path, persona: str | None, *, score: bool, say: Say) -> Result:
    """Write ``out`` from the shipped clip; with ``score`` the report gets "quality". Raises PersonacamError."""
    name = persona or DEFAULT_PERSONA
    settings = Settings(source="demo", persona=name, sink=(str(out),))
    scorer = None
    if score:
        truth = load_truth(demo_clip().with_suffix(".npz"), name)
        if truth is None:
            raise SettingsError(f"the demo has no true render of {name!r}", hint="score a shipped persona: vera or kofi")
        scorer = Scorer(truth)
    result = run_session(settings, say=say, watch=scorer.watch if scorer else None)
    if scorer is not None and result.error is None:
        result.report["quality"] = scorer.quality()
    return result
