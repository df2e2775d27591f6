from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from engines.augment import NEUTRAL, AugmentConfig, augment, to_pictures, to_tensor
from engines.errors import SettingsError
from engines.pairs import PairedSet


@pytest.fixture
def batch(cartoons):
    return PairedSet(cartoons, ["mara", "odin"], "train").draw(np.random.default_rng(0), 6)


def cut(batch, config=NEUTRAL, seed=0, **options):
    sizes = {"margin": 1.25, "input_size": 32, "output_size": 32} | options
    return augment(batch, config, np.random.default_rng(seed), **sizes)


def test_neutral_is_the_centre_of_the_stored_crop(batch):
    found = cut(batch)
    assert np.array_equal(to_pictures(found.inputs), batch.inputs[:, 4:36, 4:36])
    assert np.array_equal(to_pictures(found.truths[1]), batch.truths[1, :, 4:36, 4:36, :3])
    assert np.allclose(found.masks[0, :, 0].numpy() * 255, batch.truths[0, :, 4:36, 4:36, 3])
    assert np.allclose(found.landmarks.numpy(), batch.landmarks - 4, atol=1e-4)
    assert found.second is None


def test_colour_order_is_changed_once_and_back():
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    picture[..., 0] = 255  # blue in BGR
    assert to_tensor(picture)[0, :, 0, 0].tolist() == [0, 0, 1]
    assert np.array_equal(to_pictures(to_tensor(picture)), picture)


def test_truth_mask_and_landmarks_move_together(batch):
    strong = replace(NEUTRAL, shift_px=12, turn_deg=15, scale=0.1)
    found = cut(batch, strong, output_size=64)
    for i in range(6):
        ys, xs = np.nonzero(found.masks[0, i, 0].numpy() > 0.5)
        eyes = found.landmarks[0, i, 36:48].mean(dim=0).numpy()
        picture = to_pictures(found.truths[0, i : i + 1])[0]
        x, y = np.rint(found.landmarks[0, i, 36:42].mean(dim=0).numpy()).astype(int)
        assert abs(xs.mean() - eyes[0]) < 14
        assert eyes[1] < ys.mean()
        assert picture[y, x].max() - picture[y, x].min() < 90  # the eye, not the skin
    assert not np.allclose(found.landmarks.numpy(), (batch.landmarks - 4) * 2 + 0.5, atol=1)


def test_input_and_truth_share_the_paired_shift(batch):
    same = replace(batch, inputs=batch.truths[0, ..., :3].copy())
    found = cut(same, replace(NEUTRAL, shift_px=10, turn_deg=10, gain=0.2, gamma=0.2, white_balance=0.1, offset=0.05))
    assert torch.equal(found.inputs, found.truths[0])
    assert not np.array_equal(to_pictures(found.inputs), same.inputs[:, 4:36, 4:36])


def test_input_only_damage_leaves_the_truth_alone(batch):
    names = ("blur_chance", "low_resolution_chance", "codec_chance", "noise_chance", "occluder_chance")
    clean = cut(batch)
    for name in names:
        found = cut(batch, replace(NEUTRAL, noise=8, **{name: 1.0}))
        assert not torch.equal(found.inputs, clean.inputs), name
        assert torch.equal(found.truths, clean.truths), name
        assert torch.equal(found.masks, clean.masks), name


def test_second_view_differs_only_by_input_damage(batch):
    found = cut(batch, replace(NEUTRAL, noise=8, noise_chance=1.0), second=True)
    assert found.second is not None
    difference = (found.inputs - found.second).abs()
    assert 0 < float(difference.mean()) < 0.05


def test_flip_mirrors_pictures_and_swaps_the_eyes(batch):
    found = cut(batch, replace(NEUTRAL, flip_chance=1.0))
    plain = cut(batch)
    assert torch.equal(found.inputs, plain.inputs.flip(-1))
    assert torch.equal(found.masks, plain.masks.flip(-1))
    left, right = found.landmarks[..., 36:42, 0].mean(-1), found.landmarks[..., 42:48, 0].mean(-1)
    assert bool((left < right).all())


def test_equal_generators_give_equal_tensors_in_range(batch):
    a, b, c = (cut(batch, AugmentConfig(), seed) for seed in (1, 1, 2))
    assert torch.equal(a.inputs, b.inputs)
    assert torch.equal(a.truths, b.truths)
    assert not torch.equal(a.inputs, c.inputs)
    for tensor in (a.inputs, a.truths, a.masks):
        assert float(tensor.min()) >= 0
        assert float(tensor.max()) <= 1


@pytest.fixture
def marked(batch):
    """Grey pictures with three marks each, every mark of a colour of its own, where the points are."""
    points = np.stack([np.random.default_rng(i).uniform(10, 30, (3, 2)) for i in range(6)]).astype(np.float32)
    marked = np.full_like(batch.inputs, 128)
    for i, xy in enumerate(np.rint(points).astype(int)):
        for k, (x, y) in enumerate(xy):
            cv2.circle(marked[i], (int(x), int(y)), 1, [255 * (c == k) for c in range(3)], -1)
    return replace(batch, inputs=marked, points=points)


def marks_found(pictures, points):
    """How many of the 18 marks have their colour where the points say; some are painted over or left the crop."""
    near = 0
    for i in range(6):
        for k, (x, y) in enumerate(points[i].numpy() * 64 - 0.5):
            column, row = round(float(x)), round(float(y))
            if 1 <= column < 63 and 1 <= row < 63:
                colour = to_pictures(pictures[i : i + 1])[0][row, column].astype(int)
                near += colour.argmax() == k and np.ptp(colour) > 60
    return near


def test_mesh_points_move_with_the_input(batch, marked):
    moves = replace(NEUTRAL, shift_px=4, turn_deg=10, scale=0.05, input_shift_px=4, input_turn_deg=5)
    found = cut(marked, moves, input_size=64, second=True)
    assert found.points.dtype == torch.float32
    assert not torch.equal(found.points, found.second_points)
    assert marks_found(found.inputs, found.points) >= 14
    assert marks_found(found.second, found.second_points) >= 14
    assert found.points.shape == (6, 3, 2)
    assert cut(batch).points is None
    with pytest.raises(SettingsError, match="mirrored"):
        cut(marked, replace(NEUTRAL, flip_chance=0.5))


def test_a_warp_bends_the_face_and_its_points_and_not_the_truth(marked):
    straight, bent = (cut(marked, replace(NEUTRAL, input_warp_px=w), input_size=64) for w in (0, 6))
    moved = (bent.points - straight.points).numpy() * 64
    assert 1 < np.abs(moved).mean() < 6
    assert np.ptp(moved, axis=1).mean() > 1  # no common shift
    assert marks_found(bent.inputs, bent.points) >= 14 > marks_found(bent.inputs, straight.points)
    assert torch.equal(bent.truths, straight.truths)


def test_points_that_keep_their_place_are_those_of_the_truth(marked):
    straight, bent = (
        cut(marked, replace(NEUTRAL, input_warp_px=w, points_keep_chance=1), input_size=64) for w in (0, 9)
    )
    assert torch.allclose(bent.points, straight.points)
    assert not torch.equal(bent.inputs, straight.inputs)


def test_another_skin_is_in_the_input_alone(batch):
    plain, darker = (cut(batch, replace(NEUTRAL, input_gamma=g)) for g in (0, 0.5))
    assert torch.equal(plain.truths, darker.truths)
    assert (plain.inputs - darker.inputs).abs().mean() > 0.02


def test_a_foreign_texture_keeps_shapes_light_and_the_truth(batch):
    plain, foreign = (cut(batch, replace(NEUTRAL, texture_chance=chance), seed=2) for chance in (0, 1))
    assert torch.equal(plain.truths, foreign.truths)
    assert (plain.inputs - foreign.inputs).abs().mean() > 0.01
    assert (plain.inputs.mean((2, 3)) - foreign.inputs.mean((2, 3))).abs().max() < 0.1
