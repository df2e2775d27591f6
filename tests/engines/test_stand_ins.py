"""Other people in a person's frames: painted where the crop is, in the frame's state, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import torch

from engines.film import FilmDecoder
from engines.pairs import Batch
from engines.stand_ins import StandIns, how_many, paint
from engines.types import U8


class Painter(FilmDecoder):
    """A trunk that paints a square in the colour that a person's vector begins with."""

    def forward(self, code, person):
        side = self.sizes.output_size
        face = person[:, :3, None, None].expand(-1, 3, side, side)
        logits = torch.full((len(person), 1, side, side), -30.0)
        logits[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = 30.0
        return face, logits


def painted(small_sizes, *, seed: int = 0, with_points: bool = False) -> tuple[U8, StandIns]:
    trunk = Painter(small_sizes, seed=0)
    people = torch.zeros(3, trunk.film_size)
    people[:, :3] = torch.eye(3)
    crops = np.random.default_rng(0).integers(0, 256, (50, 40, 40, 3), np.uint8)
    near = np.full((50, 68, 2), 20, np.float32) + np.random.default_rng(1).normal(0, 5, (50, 68, 2)).astype(np.float32)
    codes = torch.zeros(50, small_sizes.code_size)
    return crops, paint(crops, near, codes, trunk, people, margin=1.25, with_points=with_points, seed=seed)


def test_people_are_painted_in_the_middle_and_nothing_else_changes(small_sizes) -> None:
    crops, found = painted(small_sizes)
    assert found.pictures.shape == (50, how_many(50), 40, 40, 3)
    assert found.points is None
    # The crop is 32 of 40 pixels, from 4 on; of it the middle half is painted.
    middle = found.pictures[:, :, 16:24, 16:24]
    assert np.isin(middle, (0, 255)).all()
    assert set(np.unique(middle.reshape(-1, 3), axis=0).sum(axis=1)) == {255}, "red, green or blue"
    border = np.ones((40, 40), bool)
    border[10:30, 10:30] = False
    assert (found.pictures[:, :, border] == crops[:, None, border]).all()


def test_the_seed_decides_who_stands_in(small_sizes) -> None:
    _, first = painted(small_sizes)
    _, again = painted(small_sizes)
    _, other = painted(small_sizes, seed=1)
    assert np.array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.pictures, other.pictures)
    who = first.pictures[:, :, 20, 20].argmax(axis=-1)
    assert all((who == k).mean() > 0.2 for k in range(3)), "everybody gets a turn"


def test_points_are_those_that_face_mesh_sees(small_sizes) -> None:
    _, found = painted(small_sizes, with_points=True)
    assert found.points is not None
    assert found.points.shape == (50, how_many(50), 127, 2)
    assert np.isnan(found.points).mean() > 0.9, "noise is no face"


def test_a_batch_takes_them_where_it_is_told() -> None:
    pictures = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((2, 3, 4, 4, 3), np.uint8)
    points = np.arange(2 * 3, dtype=np.float32).reshape(2, 3, 1, 1) * np.ones((2, 3, 5, 2), np.float32)
    truths = np.full((1, 4, 4, 4, 4), 9, np.uint8)
    batch = Batch(
        np.arange(4), ["nia"] * 4, np.full((4, 4, 4, 3), 100, np.uint8), truths, np.zeros((1, 4, 68, 2), np.float32),
        np.full((4, 5, 2), 50, np.float32),
    )  # fmt: skip
    StandIns(pictures, points).take(batch, np.array([1, 3]), np.array([0, 1, 0, 0]), np.array([0, 2, 0, 1]))
    assert batch.inputs[:, 0, 0, 0].tolist() == [100, 5, 100, 1]
    assert batch.points is not None
    assert batch.points[:, 0, 0].tolist() == [50, 5, 50, 1]
    assert (batch.truths == 9).all()


def test_few_frames_get_many_and_many_get_few() -> None:
    assert [how_many(n) for n in (4, 8, 50, 300, 5000)] == [16, 16, 12, 2, 1]
