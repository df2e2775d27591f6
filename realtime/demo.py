"""The demo: the shipped wearer through the real pipeline, and how near the swap comes to the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calibration.demo_truth import TRUTH_SIZE, PersonaTruth, load_truth
from engines import geometry
from engines.errors import SettingsError
from engines.metrics import mask_iou, psnr_masked_db
from engines.types import Frame, Swap
from realtime.config import DEFAULT_PERSONA, Settings
from realtime.session import Result, Say, demo_clip, run_session


class Scorer:
    """Compares each raw swap with the persona's true render of the same frame, where both lie in the frame.

    The truth is placed in the frame by the wearer's true landmarks, the swap by the tracked ones, so an alignment that
    is off, lags or trembles costs points. PSNR inside the true mask, and the masks' intersection over union; means over
    frames.
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
        size = swap.pixels.shape[0]
        to_frame = geometry.invert(geometry.frame_to_crop(self._truth.landmarks[row], "points68", TRUTH_SIZE))
        swap_to_frame = geometry.rescale_crop(swap.face.to_frame, swap.face.pixels.shape[0], size)
        to_swap = geometry.compose(geometry.invert(swap_to_frame), to_frame)
        truth, mask = (
            np.asarray(cv2.warpAffine(x, to_swap, (size, size), flags=cv2.INTER_LINEAR), np.uint8)
            for x in (self._truth.crops[row], self._truth.masks[row])
        )
        self.psnr.append(psnr_masked_db(swap.pixels, truth, mask > 127))
        self.iou.append(mask_iou(swap.mask > 127, mask > 127))

    def quality(self) -> dict[str, float] | None:
        """The JSON object under "quality"; None when no frame that has a truth was swapped."""
        if not self.psnr:
            return None
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
            raise SettingsError(f"the demo has no true render of {name!r}", hint="score one that it has: vera or kofi")
        scorer = Scorer(truth)
    result = run_session(settings, say=say, watch=scorer.watch if scorer else None)
    if scorer is not None:
        result.report["quality"] = scorer.quality()
    return result
