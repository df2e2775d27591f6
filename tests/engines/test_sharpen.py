from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from engines.errors import SettingsError
from engines.network import build_decoder
from engines.sharpen import sharpen


@pytest.fixture
def soft(small_sizes):
    """A decoder that draws something smooth, and truths that are what it draws with stronger fine bands."""
    decoder = build_decoder(small_sizes, seed=0).eval().requires_grad_(requires_grad=False)
    decoder.head.weight.mul_(8)
    decoder.head.bias[12:] = 4.0  # all of it is face
    code = 2 * torch.randn(12, small_sizes.code_size, generator=torch.Generator().manual_seed(0))
    face = decoder(code)[0].permute(0, 2, 3, 1).numpy()
    crisp = np.stack([2 * p - cv2.GaussianBlur(p, (0, 0), 1.0) for p in np.ascontiguousarray(face)])
    truths = torch.from_numpy(crisp).permute(0, 3, 1, 2).contiguous()
    return decoder, code, truths, torch.ones(12, 1, *truths.shape[-2:])


def test_fine_bands_rise_within_the_price_and_the_mask_stays(soft):
    decoder, code, truths, masks = soft
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    found = sharpen(decoder, code, truths, masks)
    assert found.strength > 0
    assert max(found.gains) > 1.2
    assert found.after.sharpness_ratio > 1.3 * found.before.sharpness_ratio
    assert found.after.psnr_masked_db > found.before.psnr_masked_db - 0.3
    assert all(torch.equal(v, before[k]) for k, v in decoder.state_dict().items())  # what was passed in is unchanged
    changed = {k for k, v in found.decoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}
    assert torch.equal(found.decoder(code)[1], decoder(code)[1])


def test_where_every_strength_costs_too_much_nothing_changes(soft):
    decoder, code, truths, masks = soft
    smooth = torch.nn.functional.avg_pool2d(truths, 3, stride=1, padding=1)
    noise = 0.5 * torch.randn(truths.shape, generator=torch.Generator().manual_seed(1))
    found = sharpen(decoder, code, smooth + noise - noise.mean(0), masks, most_loss_db=-50)
    assert found.strength == 0
    assert found.after == found.before
    assert all(torch.equal(*pair) for pair in zip(found.decoder.parameters(), decoder.parameters(), strict=True))


def test_a_decoder_without_a_face_is_refused(soft):
    decoder, code, truths, masks = soft
    with pytest.raises(SettingsError, match="draws no face"):
        sharpen(decoder, code, truths, 0 * masks)
