"""How good the networks are right now: scores on held-out faces, and a picture to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from engines import metrics
from engines.augment import NEUTRAL, Tensors, augment, to_pictures
from engines.files import write_atomic
from engines.network import NetworkConfig
from engines.pairs import PairedSet
from engines.run_state import SwapNetworks


@dataclass(frozen=True, slots=True)
class Score:
    """A persona on the validation split: held-out states, held-out wearers where the set has any."""

    psnr_masked_db: float
    mask_iou: float
    ssim: float
    sharpness_ratio: float
    """Fine detail of the results over that of the truth; 1 is as sharp, below 1 is softer."""


def validation_tensors(pairs: PairedSet, sizes: NetworkConfig, limit: int) -> Tensors:
    """The at most ``limit`` faces that every checkpoint is scored on: undisturbed, the same ones each time."""
    states, wearers = zip(*pairs.every(limit), strict=True)
    return augment(
        pairs.gather(states, wearers), NEUTRAL, np.random.default_rng(0), margin=pairs.faceset.info.margin,
        input_size=sizes.input_size, output_size=sizes.output_size,
    )  # fmt: skip


@torch.no_grad()
def validate(networks: SwapNetworks, faces: Tensors, personas: Sequence[str], sheet: Path) -> Mapping[str, Score]:
    """Score every persona on ``faces`` and write the contact sheet."""
    code = networks.encoder(faces.inputs, faces.points)
    results = [(face.contiguous(), torch.sigmoid(mask)) for face, mask in networks.decode(code)]
    write_sheet(sheet, results, faces)
    return {name: score_faces(*results[k], faces, k) for k, name in enumerate(personas)}


def score_faces(face: Tensor, mask: Tensor, faces: Tensors, persona: int) -> Score:
    """Score results (N, 3, T, T) RGB and masks (N, 1, T, T) 0..1 against the truths of one persona."""
    result, truth = to_pictures(face), to_pictures(faces.truths[persona])
    masks, true_masks = mask[:, 0].numpy(), faces.masks[persona, :, 0].numpy()
    ssims = [metrics.ssim(*pair) for pair in zip(result, truth, true_masks, strict=True)]
    ious = [metrics.mask_iou(*pair) for pair in zip(masks, true_masks, strict=True)]
    return Score(
        metrics.psnr_masked_db(result, truth, true_masks),
        float(np.mean(ious)),
        float(np.mean(ssims)),
        metrics.sharpness_ratio(result, truth, true_masks),
    )


def write_sheet(path: Path, results: Sequence[tuple[Tensor, Tensor]], faces: Tensors, *, rows: int = 8) -> None:
    """PNG, a face per row: wearer, then result and truth of each persona, each on grey outside its own mask."""
    count, size = faces.inputs.shape[0], faces.truths.shape[-1]
    picked = np.linspace(0, count - 1, min(rows, count)).astype(int)
    wearers = to_pictures(faces.inputs[picked])
    columns = [np.stack([cv2.resize(w, (size, size), interpolation=cv2.INTER_LINEAR) for w in wearers])]
    for k, (face, mask) in enumerate(results):
        for picture, cover in ((face, mask), (faces.truths[k], faces.masks[k])):
            columns.append(to_pictures((picture * cover + 0.5 * (1 - cover))[picked]))
    sheet = np.concatenate(np.concatenate(columns, axis=2), axis=0)
    write_atomic(path, bytes(cv2.imencode(".png", sheet)[1]))
