"""One step of the GAN stage: what one part of a batch asks of the decoders and of the discriminator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engines import gan_losses, losses
from engines.augment import Tensors
from engines.discriminator import Discriminator, on_grey
from engines.gan_losses import GanWeights
from engines.losses import LossWeights
from engines.network import UniversalEncoder
from engines.run_state import SwapNetworks


@dataclass(frozen=True, slots=True)
class Gradients:
    """What one part of a batch gives."""

    decoders: tuple[Tensor, ...]
    """Gradients of the decoders' weights, already divided by the number of shards."""
    critic: tuple[Tensor, ...]
    """The same of the discriminator's."""
    values: dict[str, float]


def play(
    networks: SwapNetworks,
    critic: Discriminator,
    batch: Tensors,
    persons: Tensor,
    weights: LossWeights,
    gan: GanWeights,
    *,
    rise: float,
    penalise: bool,
    shards: int,
) -> Gradients:
    """Both players' gradients on one batch, from one pass of the critic over each picture.

    They move at the same time instead of in turns: it saves a second pass through both networks, and the gradient
    penalties that make turns converge make this converge as well (Mescheder et al. 2018). ``persons`` (K, F) are the
    decoders' vectors, and their device is where it happens; ``rise`` 0..1 is how far the adversarial weight has come,
    ``penalise`` whether this step has gradient penalties, ``shards`` how many parts' gradients will be summed.
    """
    device = persons.device
    # (K, N, ...) -> (K N, ...): all personas at once, the critic is told who is who.
    truth = batch.truths.flatten(0, 1).to(device)
    true_mask = batch.masks.flatten(0, 1).to(device)
    regions = losses.region_weights(batch.landmarks.flatten(0, 1), truth.shape[-1]).to(device)
    who = persons.repeat_interleave(batch.truths.shape[1], dim=0)
    learning, judging = list(networks.decoders.parameters()), list(critic.parameters())
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        with torch.no_grad():
            code = _encode(networks.encoder, batch, device)
        faces, logits = zip(*networks.decode(code), strict=True)
        # The losses are element-wise and faster on plain layout.
        face, mask_logits = (torch.cat(parts).float().contiguous() for parts in (faces, logits))
        fake = critic(on_grey(face, true_mask), who).float()
        real = critic(on_grey(truth, true_mask), who).float()

    terms = losses.swap_losses(face, mask_logits, truth, true_mask, regions, weights)
    total = terms.pop("total")
    terms["adversarial"] = gan_losses.adversarial_loss(fake, real, true_mask)
    terms["feature_matching"] = gan_losses.feature_matching(fake, real)
    terms["total_variation"] = gan_losses.total_variation(face, true_mask)
    terms["background"] = gan_losses.background(face, true_mask)
    weighted = {"adversarial": gan.adversarial * rise, "feature_matching": gan.feature_matching,
                "total_variation": gan.total_variation, "background": gan.background}  # fmt: skip
    total = total + torch.stack([weight * terms[name] for name, weight in weighted.items()]).sum()

    judged = terms["discriminator"] = gan_losses.discriminator_loss(real, fake, true_mask)
    if penalise:
        pictures = {"r1": (truth, gan.r1), "r2": (face, gan.r2)}
        often = gan.penalty_every * gan_losses.penalty_scale(truth.shape[-1])
        for name, (picture, gamma) in pictures.items():
            if gamma:
                terms[name] = _penalty(critic, picture, true_mask, who)
                judged = judged + gamma * often * terms[name]
    critic_gradients = torch.autograd.grad(judged / shards, judging, retain_graph=True)
    decoder_gradients = torch.autograd.grad(total / shards, learning)
    values = {name: float(term.detach()) for name, term in terms.items()}
    pairs = zip(*(pictures.chunk(len(persons)) for pictures in (face.detach(), truth, true_mask)), strict=True)
    values["variety"] = min(gan_losses.variety(*pair) for pair in pairs)
    return Gradients(decoder_gradients, critic_gradients, {**values, "total": float(total.detach())})


def _encode(encoder: UniversalEncoder, batch: Tensors, device: torch.device) -> Tensor:
    """(N, C); faces whose points are NaN are told from the picture alone."""
    inputs = batch.inputs.to(device).contiguous(memory_format=torch.channels_last)
    if batch.points is None:
        code: Tensor = encoder(inputs)
        return code
    points = batch.points.to(device)
    present = torch.isfinite(points).flatten(1).all(dim=1, keepdim=True)
    both: Tensor = encoder(inputs, torch.nan_to_num(points), present.to(points.dtype))
    return both


def _penalty(critic: Discriminator, picture: Tensor, mask: Tensor, who: Tensor) -> Tensor:
    """The gradient penalty on faces (N, 3, T, T): in float32 and in a pass of its own, by the face, not the mask."""
    picture = picture.detach().requires_grad_()
    verdict = critic(on_grey(picture, mask), who)
    return gan_losses.gradient_penalty(gan_losses.mean_logit(verdict, mask), picture)
