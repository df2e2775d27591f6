"""Runs that score what they have every few steps, and keep the best: enrollment and polishing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engines import checkpoint
from engines.errors import DataError
from engines.loop import write_json
from engines.network import PersonaDecoder, UniversalEncoder
from engines.validation import Score

HISTORY = "history.json"
LEAST_GAIN = 1e-3
"""A check that lowers the held-out loss by less than this share has brought nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """How good the averaged weights were on the held-out frames after ``step`` steps."""

    step: int
    seconds: float
    """Of training so far."""
    loss: float
    """The total that is also trained on, on undisturbed frames: what decides."""
    psnr_masked_db: float
    mask_iou: float
    ssim: float
    sharpness_ratio: float

    @property
    def score(self) -> Score:
        """The measures alone."""
        return Score(self.psnr_masked_db, self.mask_iou, self.ssim, self.sharpness_ratio)


def checks_in_vain(history: Sequence[Check]) -> int:
    """How many checks in a row, up to the last one, brought no gain."""
    best, vain = math.inf, 0
    for check in history:
        if check.loss < best * (1 - LEAST_GAIN):
            best, vain = check.loss, 0
        else:
            vain += 1
    return vain


def read_history(path: Path) -> list[Check]:
    """The checks in a run's history.json. Raises DataError when it is missing or damaged."""
    try:
        return [Check(**check) for check in json.loads(path.read_bytes())["checks"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is missing or damaged: {error}", hint="enroll again in a new folder") from error


class BestSoFar:
    """The checks of a run and the decoder that passed the best of them, in history.json, decoder and encoder."""

    def __init__(self, out_dir: Path) -> None:
        self._out_dir = out_dir
        self.history: list[Check] = []
        self._best: tuple[Check, PersonaDecoder] | None = None

    def resume(self, step: int, device: torch.device) -> None:
        """Read what a run had after ``step`` steps. Raises DataError when it is missing or damaged."""
        # What a killed run learned after its last checkpoint is learned again.
        self.history = [c for c in read_history(self._out_dir / HISTORY) if c.step <= step]
        decoder, meta = checkpoint.load_decoder(self._out_dir / "decoder")
        self._best = Check(**meta["check"]), decoder.to(device)

    @property
    def check(self) -> Check | None:
        """The best one; None before the first."""
        return None if self._best is None else self._best[0]

    def kept(self) -> tuple[Check, PersonaDecoder]:
        """The best check and its decoder."""
        if self._best is None:
            raise RuntimeError("a run is resumed, or started with a check, before anything else")
        return self._best

    def keep(self, check: Check, decoder: PersonaDecoder) -> None:
        """Take these for the best."""
        self._best = check, decoder

    def write(self, encoder: UniversalEncoder, about: dict[str, Any]) -> PersonaDecoder:
        """Write history and decoder, and once its encoder, so that the folder is whole. Returns the decoder."""
        check, decoder = self.kept()
        write_json(self._out_dir / HISTORY, {"checks": [asdict(c) for c in self.history]})
        stem = self._out_dir / "encoder"
        if not stem.with_suffix(".json").exists():
            checkpoint.save_encoder(stem, encoder, {})
        facts = {
            **about, "step": check.step, "check": asdict(check),
            "encoder_sha256": checkpoint.load(stem, "encoder").meta["sha256"],
        }  # fmt: skip
        checkpoint.save_decoder(self._out_dir / "decoder", decoder, facts)
        return decoder
