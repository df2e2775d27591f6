"""What the universal stage minimises: the exact swap loss, and what keeps the code free of the wearer.

The networks run in bfloat16 on a GPU, the losses always in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engines import losses
from engines.losses import LossWeights
from engines.network import Reading
from engines.universal_data import Examples
from engines.universal_networks import UniversalNetworks


@dataclass(frozen=True, slots=True)
class UniversalWeights:
    """How much each term beyond the swap counts; 0 leaves a term out with all of its cost."""

    cycle: float = 0.1
    """The decoded face has the code it was made from (on some steps)."""
    consistency: float = 0.1
    """Two differently disturbed views of one face have one code (on some steps)."""
    auxiliary: float = 4.0
    """The state's truth can be read out of the code. A swap alone teaches too little of it: brows and lids are few
    pixels, and at 0.2 the code of a face never seen knew nothing of them (R^2 about 0, jaw 0.5)."""
    adversary: float = 0.05
    """The wearer's identity cannot: the strength of the reversed gradient, reached in the course of the schedule."""


NO_WEIGHTS = UniversalWeights(cycle=0.0, consistency=0.0, auxiliary=0.0, adversary=0.0)
"""The swap alone."""


def universal_losses(
    networks: UniversalNetworks, batch: Examples, swap: LossWeights, weights: UniversalWeights,
    *, cycle: bool, reversal: float,
) -> dict[str, Tensor]:  # fmt: skip
    """Unweighted terms of a part of a batch, and ``total``, weighted. ``reversal`` is the adversary's strength now."""
    reading, face, mask = _swap(networks, batch)
    code = reading.code

    # Goal: persona B in the wearer's state, exactly as rendered.
    regions = losses.region_weights(batch.landmarks, batch.truths.shape[-1])
    terms = losses.swap_losses(face, mask, batch.truths, batch.masks, regions, swap)

    # Goal: expression survives a change of identity. |E(compose(D_b(z_a))) - sg z_a|^2 / var z.
    if weights.cycle and cycle:
        again = encode(networks, whole_picture(face, batch, batch.inputs.shape[-1]))
        terms["cycle"] = losses.code_consistency(code.detach(), again)
        terms["total"] = terms["total"] + weights.cycle * terms["cycle"]

    # Goal: noise, codec, occluders and half a pixel leave the code as it is. |E(x) - E(x')|^2 / var z.
    if weights.consistency and batch.second is not None:
        other = encode(networks, batch.second, batch.second_points, batch.second_present)
        terms["consistency"] = losses.code_consistency(code, other)
        terms["total"] = terms["total"] + weights.consistency * terms["consistency"]

    # Goal: pose, expression, gaze and light are all in the code, even where a swap shows little of them.
    if networks.auxiliary is not None and batch.targets is not None:
        terms["auxiliary"] = networks.auxiliary(reading, batch.targets, batch.present)
        terms["total"] = terms["total"] + weights.auxiliary * terms["auxiliary"]

    # Goal: nothing in the code says who the wearer is. The head learns at full weight, the encoder unlearns. The state
    # is left out: it has its truth, which is free of the wearer.
    if networks.adversary is not None:
        free = code[:, : code.shape[1] - networks.encoder.sizes.state_size]
        terms["identity"] = networks.adversary(free, batch.wearers, reversal)
        terms["total"] = terms["total"] + terms["identity"]
    return terms


def encode(
    networks: UniversalNetworks, face: Tensor, points: Tensor | None = None, present: Tensor | None = None
) -> Tensor:
    """Code (N, C) float32 of pictures (N, 3, S, S) and points, in half precision on a GPU."""
    with _half(face):
        code: Tensor = networks.encoder(face.contiguous(memory_format=torch.channels_last), points, present)
    return code.float()


def whole_picture(face: Tensor, batch: Examples, size: int) -> Tensor:
    """(N, 3, size, size): the decoded face (N, 3, T, T) over the truth by the true mask.

    The encoder has only ever seen whole pictures, and outside of the mask a decoder may paint what it likes.
    """
    whole = batch.truths + batch.masks * (face - batch.truths)
    if whole.shape[-1] == size:
        return whole
    return F.interpolate(whole, size=(size, size), mode="bilinear", antialias=True)


def _swap(networks: UniversalNetworks, batch: Examples) -> tuple[Reading, Tensor, Tensor]:
    """Reading, face and mask logits in float32, on plain layout: the losses are element-wise and faster there."""
    with _half(batch.inputs):
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
        reading = networks.encoder.read(inputs, batch.points, batch.present)
        face, mask = networks.decode(reading.code, batch.personas)
    return reading.float(), face.float().contiguous(), mask.float().contiguous()


def _half(on: Tensor) -> torch.autocast:
    """The precision of the networks: bfloat16 on a GPU; on the processors measured here it was slower."""
    return torch.autocast(on.device.type, torch.bfloat16, enabled=on.is_cuda)
