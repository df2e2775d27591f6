"""The face detector on a real photograph with six faces, and its arithmetic on a network with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from engines.blazeface import GRID, BlazeFace, Candidate, Region, load_blazeface, merge, outset_region, tile_regions
from engines.errors import DetectorError

SIX = np.array([(112, 333), (316, 217), (515, 344), (780, 413), (932, 137), (1170, 341)])
"""Where the faces of the photograph are, by eye."""


@pytest.fixture(scope="module")
def blazeface() -> BlazeFace:
    return load_blazeface()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    import insightface.data

    return insightface.data.get_image("t1")


def matched(found: list[Candidate], centres: np.ndarray) -> list[int]:
    """Index of the centre that each candidate's box holds."""
    held = []
    for c in found:
        inside = np.all((centres > c.box[:2]) & (centres < c.box[2:]), axis=1)
        assert inside.sum() == 1, c.box
        held.append(int(inside.argmax()))
    return held


@pytest.mark.parametrize("tiles", [False, True])
def test_six_of_six_faces_once_each(blazeface: BlazeFace, photograph: np.ndarray, tiles: bool) -> None:
    found = blazeface.find(photograph, tiles=tiles)
    assert sorted(matched(found, SIX)) == [0, 1, 2, 3, 4, 5]
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    for c in found:
        width, height = c.box[2:] - c.box[:2]
        assert 80 < width < 170
        assert 0.8 < width / height < 1.25
        right, left, nose, mouth = c.keypoints[:4]
        assert right[0] < left[0]
        assert right[1] < nose[1] < mouth[1]


def test_tiles_find_faces_too_small_for_one_pass(blazeface: BlazeFace, photograph: np.ndarray) -> None:
    """The photograph in the corner of a large picture: its faces are nine pixels wide for the first pass."""
    frame = np.full((1772, 2560, 3), 90, np.uint8)
    frame[:886, :1280] = photograph
    assert len(blazeface.find(frame)) < 6
    assert sorted(matched(blazeface.find(frame, tiles=True), SIX)) == [0, 1, 2, 3, 4, 5]


def test_a_face_that_fills_the_picture(blazeface: BlazeFace, photograph: np.ndarray) -> None:
    face = np.ascontiguousarray(photograph[277:411, 448:582])
    region = outset_region(134, 134)
    found = blazeface.find_in(face, region)
    assert len(found) == 1
    assert np.abs(found[0].box - [3, 4, 130, 131]).max() < 20


def test_nothing_in_pictures_without_a_face(blazeface: BlazeFace) -> None:
    rng = np.random.default_rng(0)
    assert blazeface.find(np.zeros((720, 1280, 3), np.uint8), tiles=True) == []
    assert blazeface.find(rng.integers(0, 256, (480, 640, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (37, 500)])
def test_odd_sizes_do_not_fail(blazeface: BlazeFace, shape: tuple[int, int]) -> None:
    blazeface.find(np.zeros((*shape, 3), np.uint8), tiles=True)


class OneCell:
    """A runtime that answers one face in one cell."""

    def __init__(self, cell: int, numbers: list[float], logit: float = 3.0) -> None:
        self.inputs = {"i": (1, 192, 192, 3)}
        self.outputs = {"n": (1, GRID * GRID, 16), "s": (1, GRID * GRID, 1)}
        self.n = np.zeros(self.outputs["n"], np.float32)
        self.s = np.full(self.outputs["s"], -9, np.float32)
        self.n[0, cell], self.s[0, cell] = numbers, logit

    def run(self, feeds):
        self.seen = feeds["i"].copy()
        return {"n": self.n, "s": self.s}

    def close(self) -> None: ...


def test_positions_and_colours_by_hand() -> None:
    """A 384 x 192 picture: shrunk to half, 48 rows of black above and below."""
    numbers = [1.0, -1.0, 20.0, 10.0, *([0.0] * 12)]
    runtime = OneCell(24 * GRID + 10, numbers)
    picture = np.zeros((192, 384, 3), np.uint8)
    picture[..., 0] = 255  # blue
    (c,) = BlazeFace(runtime).find(picture)
    # The cell's centre is (42, 98) of the network's picture, the box centre (43, 97).
    np.testing.assert_allclose(c.box, [(43 - 10) * 2 - 0.5, (97 - 5 - 48) * 2 - 0.5, 53 * 2 - 0.5, 54 * 2 - 0.5])
    np.testing.assert_allclose(c.keypoints, np.tile([42 * 2 - 0.5, 50 * 2 - 0.5], (6, 1)))
    assert c.score == pytest.approx(1 / (1 + np.exp(-3)))
    np.testing.assert_allclose(runtime.seen[0, 96, 96], [-1, -1, 1], atol=1e-6)  # RGB, -1..1
    np.testing.assert_allclose(runtime.seen[0, 10, 96], [-1, -1, -1], atol=1e-6)
    assert BlazeFace(runtime).find(picture, threshold=0.96) == []


def test_halving_first_finds_the_same(
    blazeface: BlazeFace, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for halved in (True, False):
        if not halved:
            monkeypatch.setattr(blazeface, "_halved", lambda view: view)
        found.append(sorted(blazeface.find(photograph), key=lambda c: float(c.box[0])))
    assert [len(faces) for faces in found] == [6, 6]
    for a, b in zip(*found, strict=True):
        assert np.abs(a.box - b.box).max() < 2.5, "a pixel of the network is 6.7 of these"
        assert abs(a.score - b.score) < 0.03


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(bad: float) -> None:
    with pytest.raises(DetectorError, match="not finite"):
        BlazeFace(OneCell(5, [bad] * 16)).find(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DetectorError, match="not finite"):
        BlazeFace(OneCell(5, [1.0] * 16, bad)).find(np.zeros((9, 9, 3), np.uint8))


def test_another_network_is_refused() -> None:
    runtime = OneCell(0, [0.0] * 16)
    runtime.outputs = {"n": (1, 896, 16), "s": (1, 896, 1)}
    with pytest.raises(DetectorError):
        BlazeFace(runtime)


def candidate(box: list[float], score: float) -> Candidate:
    return Candidate(np.array(box, np.float32), np.full((6, 2), box[0], np.float32), score)


def test_merge_averages_one_face_and_keeps_two() -> None:
    found = merge([candidate([0, 0, 10, 10], 0.6), candidate([100, 0, 110, 10], 0.7), candidate([2, 0, 12, 10], 0.9)])
    assert [c.score for c in found] == [0.9, 0.7]
    np.testing.assert_allclose(found[0].box, [1.2, 0, 11.2, 10], rtol=1e-6)
    np.testing.assert_allclose(found[0].keypoints[0], 1.2, rtol=1e-6)


def test_merge_drops_a_part_of_a_stronger_face_and_boxes_without_area() -> None:
    assert len(merge([candidate([0, 0, 20, 20], 0.9), candidate([1, 1, 8, 8], 0.6)])) == 1
    assert len(merge([candidate([5, 5, 5, 5], 0.9), candidate([50, 50, 50, 50], 0.8)])) == 2


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (640, 480), (1, 1), (3840, 1080), (500, 500)])
def test_tiles_cover_everything_and_overlap(size: tuple[int, int]) -> None:
    width, height = size
    covered = np.zeros((height, width), bool)
    for tile in tile_regions(width, height):
        assert 0 <= tile.x0 < tile.x1 <= width
        assert 0 <= tile.y0 < tile.y1 <= height
        covered[tile.y0 : tile.y1, tile.x0 : tile.x1] = True
    assert covered.all()
    assert len(tile_regions(1280, 720)) == 6


def test_outset_region_is_centred() -> None:
    assert outset_region(100, 50) == Region(-50, -75, 150, 125)
