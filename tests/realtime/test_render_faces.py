from __future__ import annotations

import numpy as np
import pytest

from engines.blazeface import Candidate
from engines.errors import SettingsError, SourceFormatError
from engines.types import Frame
from realtime.render_faces import ChosenDetector, FaceChoice, Guide, Place, choose, look_through, parse_choice

SIZE = (400, 200)
PER_SECOND = 12


def face(x: float, y: float = 100, side: float = 40, who: int = 0) -> Candidate:
    """``who`` is kept in the score's decimals, for the embedding."""
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Candidate(box, np.zeros((6, 2), np.float32), 0.9 + who / 1000)


def frame(index: int) -> Frame:
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[0, 0, 0] = index % 256
    return Frame(pixels, index, 0, index * 1_000_000_000 // PER_SECOND)


def embed(_: Frame, candidate: Candidate):
    vector = np.zeros(4)
    vector[round((candidate.score - 0.9) * 1000)] = 1.0
    return vector


def guide(choice: FaceChoice, show, count: int = 60, **options) -> Guide:
    """``show``: number -> the faces that are found."""
    return look_through(
        (frame(i) for i in range(count)), lambda pixels: show(int(pixels[0, 0, 0])), choice,
        seconds=lambda i: i / PER_SECOND, **options,
    )  # fmt: skip


def middle(guide: Guide, ordinal: int) -> float | None:
    boxes = guide.near(ordinal)
    return float(boxes[0][0] + boxes[0][2]) / 2 if boxes else None


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (None, FaceChoice()),
        ("left", FaceChoice("left")),
        (" Largest", FaceChoice("largest")),
        ("2", FaceChoice("number", 2)),
        ("120,80.5", FaceChoice("at", x=120, y=80.5)),
        ("at 0.25, 0.5", FaceChoice("at", x=0.25, y=0.5)),
    ],
)
def test_what_the_option_may_say(text, choice):
    assert parse_choice(text) == choice


@pytest.mark.parametrize("text", ["", "0", "-1", "nose", "1,2,3", "nan,1", "-4,3"])
def test_what_it_may_not_say(text):
    with pytest.raises(SettingsError) as caught:
        parse_choice(text)
    assert "left" in caught.value.hint


def test_a_choice_among_the_faces_of_a_picture():
    faces = [face(300, side=60), face(50), face(180, side=20)]
    picked = {
        text: float(found.box[0] + found.box[2]) / 2
        for text in ("left", "right", "largest", "2", "180,100", "0.125,0.5")
        if (found := choose(faces, parse_choice(text), SIZE)) is not None
    }
    assert picked == {"left": 50, "right": 300, "largest": 300, "2": 180, "180,100": 180, "0.125,0.5": 50}
    assert choose(faces, parse_choice("4"), SIZE) is None
    assert choose(faces, parse_choice("10,10"), SIZE) is None


def test_the_chosen_face_is_followed_past_the_place_where_it_was_chosen():
    """The left one walks to the right behind the other's back: it stays the chosen one."""
    found = guide(FaceChoice("left"), lambda i: [face(50 + 5 * i), face(200, y=40)])
    assert middle(found, 0) == pytest.approx(50, abs=1)
    assert middle(found, 58) == pytest.approx(50 + 5 * 58, abs=6)
    assert middle(found, 31) == pytest.approx(50 + 5 * 31, abs=6), "between two looks"


def test_faces_that_cross_are_told_apart_by_who_they_are():
    def show(i):
        return [face(50 + 5 * i, who=1), face(350 - 5 * i, y=104, who=2)]

    found = guide(FaceChoice("left"), show, embed=embed)
    assert middle(found, 59) == pytest.approx(50 + 5 * 59, abs=8)


def test_a_lost_face_is_nobody_elses_turn():
    """It leaves for longer than its place counts; somebody else stands there then."""

    def show(i):
        if i < 12:
            return [face(100, who=1)]
        return [face(105, who=2)] if i >= 60 else []

    by_place = guide(FaceChoice("largest"), show, 80)
    assert middle(by_place, 5) == pytest.approx(100)
    assert middle(by_place, 40) is None
    assert middle(by_place, 75) is None
    by_person = guide(FaceChoice("largest"), show, 80, embed=embed)
    assert middle(by_person, 75) is None


def test_who_comes_back_is_known_again_by_who_it_is():
    def show(i):
        if 12 <= i < 60:
            return [face(300, who=2)]
        return [face(100 if i < 12 else 340, who=1), face(250, who=2)]

    found = guide(FaceChoice("left"), show, 80, embed=embed)
    assert middle(found, 40) is None
    assert middle(found, 75) == pytest.approx(340)


def test_a_face_that_is_never_there_is_said():
    with pytest.raises(SourceFormatError, match="at most 1 faces"):
        guide(FaceChoice("number", 2), lambda i: [face(100)])


def test_a_search_that_misses_once_does_not_end_it():
    found = Guide.of([Place(0, (0, 0, 10, 10)), Place(2, None), Place(4, (4, 0, 14, 10))])
    assert found.near(1)
    assert found.near(3)
    gone = Guide.of([Place(0, (0, 0, 10, 10)), Place(2, None), Place(4, None), Place(6, (4, 0, 14, 10))])
    assert not gone.near(3)
    assert not Guide.of([]).near(3)


def test_at_a_cut_the_face_is_at_either_place_and_never_between():
    """Between two places lies somebody else's, or nothing."""
    cut = Guide.of([Place(0, (80, 80, 120, 120)), Place(5, (280, 80, 320, 120))])
    assert [float(box[0]) for box in cut.near(2)] == [80, 280]
    before, after, between = face(100), face(300), face(180)
    for faces, x in (([before, between], 100), ([after, between], 300)):
        networks = Networks(faces)
        found = ChosenDetector(networks, networks, cut).search(frame(2))
        assert found is not None
        assert abs(found.landmarks.mean(0)[0] - x) < 12
    networks = Networks([between])
    assert ChosenDetector(networks, networks, cut).search(frame(2)) is None


class Networks:
    """BlazeFace with these faces; a mesh is a ring in the middle of the square that is looked at, off by ``off``."""

    def __init__(self, faces, off: float = 0.0) -> None:
        self.faces, self.off = faces, off

    def find(self, pixels, **_):
        return self.faces

    def landmarks(self, pixels, roi):
        angles = np.linspace(0, 2 * np.pi, 468, endpoint=False)
        ring = 18 * np.column_stack([np.cos(angles), np.sin(angles)])
        return (np.array(roi.centre) + self.off + ring).astype(np.float32), None, 0.9

    def close(self):
        pass


def test_the_detector_finds_the_guides_face_and_nobody_else():
    found = Guide.of([Place(0, (80, 80, 120, 120)), Place(10, (80, 80, 120, 120)), Place(20, None), Place(30, None)])
    other, chosen = face(300, side=90), face(100)
    networks = Networks([other, chosen])
    detector = ChosenDetector(networks, networks, found)
    seen = detector.search(frame(5))
    assert seen is not None
    assert abs(seen.landmarks.mean(0)[0] - 100) < 12
    assert detector.confirm(frame(6), seen)
    assert detector.follow(frame(6), seen) is not None
    assert detector.follow(frame(25), seen) is None, "the guide says that it is gone"
    assert detector.search(frame(25)) is None
    alone = ChosenDetector(Networks([other]), networks, found)
    assert alone.search(frame(5)) is None, "the large one is somebody else"
    drifting = ChosenDetector(networks, Networks([], off=60.0), found)
    assert drifting.follow(frame(6), seen) is None, "the mesh went over to a neighbour"
