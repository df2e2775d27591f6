from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engines import gan_losses
from engines.augment import NEUTRAL, augment
from engines.discriminator import (
    DiscriminatorConfig,
    build_discriminator,
    discriminator_config,
    load_discriminator,
    on_grey,
    save_discriminator,
)
from engines.errors import DataError, SettingsError
from engines.network import TIERS, config, count_parameters
from engines.pairs import PairedSet


@pytest.fixture
def critic_sizes(small_sizes) -> DiscriminatorConfig:
    return discriminator_config(small_sizes, 2)


def blurred(faces):
    """A soft copy: every second pixel, brought back."""
    return F.interpolate(F.avg_pool2d(faces, 2), scale_factor=2.0, mode="bilinear")


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_gets_patch_and_pixel_logits(tier):
    sizes = discriminator_config(config(tier), 8)
    critic = build_discriminator(sizes, seed=0)
    side = config(tier).output_size
    verdict = critic(torch.rand(1, 4, side, side), torch.eye(8)[:1])
    assert verdict.pixels.shape == (1, 1, side, side)
    assert verdict.patches.shape[-1] == side >> len(sizes.widths) in range(6, 17)
    assert count_parameters(critic) == pytest.approx({"tiny": 0.29e6, "small": 0.51e6, "base": 1.43e6}[tier], rel=0.02)
    assert not [m for m in critic.modules() if "Norm" in type(m).__name__]


def test_it_learns_to_tell_blurred_from_true_cartoons(cartoons, critic_sizes):
    personas = ["mara", "odin"]
    pairs = {side: PairedSet(cartoons, personas, side, held_out_every=4) for side in ("train", "val")}
    critic = build_discriminator(critic_sizes, seed=0)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.99))

    def judge(side, rng):
        batch = augment(pairs[side].draw(rng, 8), NEUTRAL, rng, margin=1.25, input_size=32, output_size=32)
        true, mask = batch.truths.flatten(0, 1), batch.masks.flatten(0, 1)
        who = torch.eye(2).repeat_interleave(8, dim=0)
        return critic(on_grey(true, mask), who), critic(on_grey(blurred(true), mask), who), mask

    def held_out():
        with torch.no_grad():
            real, fake, mask = judge("val", np.random.default_rng(99))
        return gan_losses.mean_logit(real, mask) > gan_losses.mean_logit(fake, mask)

    before = float(held_out().float().mean())
    for step in range(40):
        real, fake, mask = judge("train", np.random.default_rng(step))
        optimizer.zero_grad()
        gan_losses.discriminator_loss(real, fake, mask).backward()
        optimizer.step()
    assert before < 0.9
    assert bool(held_out().all())


def test_what_lies_outside_the_mask_never_matters(critic_sizes):
    critic = build_discriminator(critic_sizes, seed=1)
    faces = torch.rand(2, 3, 32, 32, requires_grad=True)
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    other = torch.where(mask > 0, faces, torch.rand_like(faces))
    found, again = (critic(on_grey(f, mask), torch.eye(2)) for f in (faces, other))
    assert torch.equal(found.pixels, again.pixels)
    assert torch.equal(found.patches, again.patches)
    gan_losses.mean_logit(found, mask).sum().backward()
    assert bool((faces.grad[(mask == 0).expand_as(faces)] == 0).all())
    assert faces.grad.abs().sum() > 0


def test_the_person_enters_by_projection(critic_sizes):
    critic = build_discriminator(critic_sizes, seed=2)
    picture = torch.rand(1, 4, 32, 32)
    one, two, both = (critic(picture, torch.tensor([v])) for v in ([2.0, 0.0], [0.0, 2.0], [1.0, 1.0]))
    louder = critic(picture, torch.tensor([[20.0, 0.0]]))
    assert (one.pixels - two.pixels).abs().max() > 1e-4
    assert (one.patches - two.patches).abs().max() > 1e-4
    torch.testing.assert_close(louder.pixels, one.pixels)
    assert torch.equal(one.features[-1], both.features[-1])  # nothing but the logits knows who is meant
    # Linear in the person: (1, 1) is the sum of both axes, whose vectors are sqrt(2) longer at equal scale.
    neutral = critic(picture, torch.zeros(1, 2)).pixels
    torch.testing.assert_close((both.pixels - neutral) * 2**0.5, one.pixels + two.pixels - 2 * neutral)


def test_spectral_norm_moves_only_when_told(small_sizes):
    critic = build_discriminator(discriminator_config(small_sizes, 2, spectral_norm=True), seed=3)
    before = {k: v.clone() for k, v in critic.state_dict().items()}
    critic(torch.rand(1, 4, 32, 32), torch.eye(2)[:1])
    assert all(torch.equal(v, before[k]) for k, v in critic.state_dict().items())
    for _ in range(30):
        critic.advance()
    assert not critic.training
    largest = torch.linalg.matrix_norm(critic.middle.weight.detach().flatten(1), ord=2)
    assert float(largest) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_weights_come_back(small_sizes, tmp_path, spectral_norm):
    critic = build_discriminator(discriminator_config(small_sizes, 2, spectral_norm=spectral_norm), seed=4).eval()
    save_discriminator(tmp_path / "d", critic, {"step": 5})
    again, meta = load_discriminator(tmp_path / "d")
    picture = torch.rand(1, 4, 32, 32)
    assert meta["step"] == 5
    assert again.sizes == critic.sizes
    assert torch.equal(again(picture, torch.eye(2)[:1]).pixels, critic(picture, torch.eye(2)[:1]).pixels)
    weights = tmp_path / "d.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(DataError, match="sha256"):
        load_discriminator(tmp_path / "d")


def test_sizes_that_cannot_be_are_named(tmp_path, critic_sizes):
    with pytest.raises(SettingsError, match="cannot be built"):
        DiscriminatorConfig(36, 2, (8, 8, 8))
    critic = build_discriminator(critic_sizes, seed=0)
    path = save_discriminator(tmp_path / "d", critic, {})
    path.write_text(path.read_text().replace('"person_size": 2', '"person_size": 3'))
    with pytest.raises(DataError, match="does not fit"):
        load_discriminator(tmp_path / "d")
