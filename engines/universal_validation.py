"""How good a universal run is right now: the swap of held-out pairs, with all there is and with each modality alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engines.augment import Tensors
from engines.universal_data import Examples
from engines.universal_networks import UniversalNetworks
from engines.validation import Score, score_faces, write_sheet

_SCORED_AT_ONCE = 32


@torch.no_grad()
def validate_universal(networks: UniversalNetworks, faces: Examples, sheet: Path) -> Mapping[str, Score]:
    """Score the swap of held-out pairs, with all there is and with each modality alone; write the contact sheet."""
    grey = torch.full_like(faces.inputs, 0.5)
    found = {"swap": _results(networks, faces)}
    if faces.points is not None and faces.present is not None:
        found["picture_alone"] = _results(networks, replace(faces, present=torch.zeros_like(faces.present)))
        found["points_alone"] = _results(networks, replace(faces, inputs=grey))
    truth = Tensors(faces.inputs, faces.truths[None], faces.masks[None], faces.landmarks[None])
    write_sheet(sheet, [found["swap"]], truth)
    return {name: score_faces(*result, truth, 0) for name, result in found.items()}


def _results(networks: UniversalNetworks, faces: Examples) -> tuple[Tensor, Tensor]:
    """Faces (N, 3, T, T) and masks (N, 1, T, T) 0..1 on the processor."""
    device = networks.people.weight.device
    pictures, masks = [], []
    for start in range(0, len(faces.inputs), _SCORED_AT_ONCE):
        some = faces.each(lambda t, a=start: t[a : a + _SCORED_AT_ONCE].to(device))  # type: ignore[misc]
        picture, mask = networks.decode(networks.encoder(some.inputs, some.points, some.present), some.personas)
        pictures.append(picture.cpu().contiguous())
        masks.append(torch.sigmoid(mask).cpu())
    return torch.cat(pictures), torch.cat(masks)
