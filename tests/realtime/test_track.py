"""When the tracker searches and follows, and how its alignment moves."""

from __future__ import annotations

import math
import sys

import cv2
import insightface.data
import numpy as np
import pytest

from engines.errors import DetectorError
from engines.geometry import ALIGN_POINTS_68, TEMPLATE, TEMPLATE_5, frame_to_crop, invert, transform
from engines.types import Detection, Frame
from realtime.detect import MeshDetector
from realtime.track import Tracker, TrackerConfig

SIZE = 128
FPS = 30.0
CORNERS = np.array([(0, 0), (127, 0), (127, 127), (0, 127)], float)


class Script:
    """A detector that answers what it is told, and writes down what it was asked."""

    name = "script"

    def __init__(self, follow: str, search: str, confirm: str = "") -> None:
        self._answers = {"f": iter(follow), "s": iter(search), "c": iter(confirm)}
        self.asked = ""

    def _answer(self, what: str, frame: Frame) -> Detection | None:
        self.asked += what
        answer = next(self._answers[what])
        if answer == "!":
            raise DetectorError("broken", hint="none")
        return face(frame.index, (100.0, 100.0), 80.0) if answer == "y" else None

    def search(self, frame: Frame) -> Detection | None:
        return self._answer("s", frame)

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        assert last.frame_index == frame.index - 1
        return self._answer("f", frame)

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        assert detection.frame_index == frame.index
        return self._answer("c", frame) is not None

    def close(self) -> None: ...


def face(index: int, centre: tuple[float, float], side: float, angle: float = 0.0, noise: float = 0.0) -> Detection:
    """68 points whose crop is a square of ``side`` pixels around ``centre``."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = np.zeros((68, 2))
    points[ALIGN_POINTS_68] = (TEMPLATE - 0.5) * side @ turn.T + centre
    points += np.random.default_rng(index).normal(0, noise, (68, 2))
    return Detection(index, np.zeros(4, np.float32), points.astype(np.float32), "points68", 1.0)


def frames(count: int) -> list[Frame]:
    pixels = np.zeros((4, 4, 3), np.uint8)
    return [Frame(pixels, i, 0, 0) for i in range(count)]


def run(tracker: Tracker, count: int) -> str:
    """As the pipeline: each frame is settled after it went out."""
    shown = ""
    for frame in frames(count):
        shown += "." if tracker.update(frame) is None else "#"
        tracker.settle(frame)
    return shown


def test_one_search_then_only_following() -> None:
    detector = Script("yyyyyyyyy", "y")
    tracker = Tracker(detector)
    assert run(tracker, 10) == "##########"
    assert detector.asked == "s" + "f" * 9
    assert (tracker.counts.searched, tracker.counts.followed, tracker.counts.lost) == (1, 9, 0)


def test_a_lost_face_is_searched_for_in_the_same_frame() -> None:
    detector = Script("ynyn", "yyn")
    tracker = Tracker(detector)
    assert run(tracker, 5) == "####."
    assert detector.asked == "sffsffs"
    assert tracker.counts.lost == 2


def test_without_a_face_every_frame_is_searched() -> None:
    detector = Script("", "nnnnn")
    assert run(Tracker(detector), 5) == "....."
    assert detector.asked == "sssss"


def test_search_at_a_bounded_cadence() -> None:
    detector = Script("ny", "nnyny")
    tracker = Tracker(detector, TrackerConfig(search_every=3))
    assert run(tracker, 12) == "......#..." + "##"
    assert detector.asked == "sss" + "fs" + "sf"


def test_an_error_ends_the_track_and_the_next_frame_is_searched() -> None:
    detector = Script("!", "yyn")
    tracker = Tracker(detector)
    shots = frames(4)
    assert tracker.update(shots[0]) is not None
    with pytest.raises(DetectorError):
        tracker.update(shots[1])
    assert tracker.update(shots[2]) is not None
    assert detector.asked == "sfs"


def test_reset_forgets_the_face() -> None:
    detector = Script("", "yy")
    tracker = Tracker(detector)
    shots = frames(2)
    tracker.update(shots[0])
    tracker.reset()
    tracker.update(shots[1])
    assert detector.asked == "ss"


@pytest.mark.parametrize("config", [TrackerConfig(search_every=0), TrackerConfig(check_every=0)])
def test_a_cadence_below_one_is_refused(config: TrackerConfig) -> None:
    with pytest.raises(DetectorError, match="is below 1"):
        Tracker(Script("", ""), config)


def test_a_track_is_checked_once_in_so_many_followed_frames() -> None:
    detector = Script("y" * 100, "y", "yyy")
    tracker = Tracker(detector)
    assert run(tracker, 100) == "#" * 100
    assert detector.asked == "s" + ("f" * 30 + "c") * 3 + "f" * 9
    assert (tracker.counts.searched, tracker.counts.followed, tracker.counts.checked) == (1, 99, 3)


def test_a_check_comes_after_its_frame_and_its_denial_covers_the_very_next_one() -> None:
    detector = Script("yyyy", "yy", "n")
    tracker = Tracker(detector, TrackerConfig(check_every=2, denials=1))
    shots = frames(5)
    for shot in shots[:3]:
        assert tracker.update(shot) is not None
        assert "c" not in detector.asked, "a check before the frame was sent makes it late"
        tracker.settle(shot)
    assert detector.asked == "sffc"
    assert tracker.update(shots[3]) is None
    assert detector.asked == "sffc", "what a search would find now may be somebody else"
    tracker.settle(shots[3])
    assert tracker.update(shots[4]) is not None
    assert detector.asked == "sffcs"


def test_a_track_denied_again_and_again_ends_covered_and_is_searched_for_in_the_next_frame() -> None:
    detector = Script("yyyyyy", "yy", "nn")
    tracker = Tracker(detector, TrackerConfig(check_every=2, denials=2))
    assert run(tracker, 7) == "#####.#"
    assert detector.asked == "s" + "ffc" + "ffc" + "s"
    assert (tracker.counts.followed, tracker.counts.checked, tracker.counts.lost) == (4, 2, 1)


def test_the_pixels_of_a_frame_that_will_be_looked_at_again_are_held() -> None:
    """The pipeline swaps in place what nobody holds: a check of a swapped picture would always see a face."""
    tracker = Tracker(Script("yyyy", "y", "yy"), TrackerConfig(check_every=2))
    held = []
    for index in range(5):
        shot = Frame(np.zeros((4, 4, 3), np.uint8), index, 0, 0)
        tracker.update(shot)
        held.append(sys.getrefcount(shot.pixels) > 2)
        tracker.settle(shot)
        held.append(sys.getrefcount(shot.pixels) > 2)
    assert held == [False, False] * 2 + [True, False] + [False, False] + [True, False]


def test_a_denial_does_not_outlive_a_reset() -> None:
    detector = Script("y", "yy", "n")
    tracker = Tracker(detector, TrackerConfig(check_every=1, denials=1))
    assert run(tracker, 2) == "##"
    tracker.reset()
    assert run(tracker, 1) == "#"
    assert detector.asked == "sfcs"


def test_one_denial_between_confirmations_means_nothing() -> None:
    detector = Script("y" * 12, "y", "nynyny")
    assert run(Tracker(detector, TrackerConfig(check_every=2, denials=2)), 13) == "#" * 13


def test_the_count_of_unchecked_frames_begins_with_each_track() -> None:
    detector = Script("yynyyy", "yy", "y")
    assert run(Tracker(detector, TrackerConfig(check_every=3)), 7) == "#######"
    assert detector.asked == "sfff" + "sfffc"


def test_an_error_in_a_check_ends_the_track() -> None:
    detector = Script("y", "yy", "!")
    tracker = Tracker(detector, TrackerConfig(check_every=1))
    shots = frames(3)
    for shot in shots[:2]:
        assert tracker.update(shot) is not None
    with pytest.raises(DetectorError):
        tracker.settle(shots[1])
    assert tracker.update(shots[2]) is not None
    assert detector.asked == "sfcs"


def test_a_wrong_track_ends_with_the_real_networks() -> None:
    """The tracked face stays small while another comes close to the camera; it takes over after the next check."""
    photograph = insightface.data.get_image("t1")
    head = photograph[200:480, 400:640]
    scene = np.full((720, 1280, 3), 110, np.uint8)
    scene[60:340, 60:300] = head
    detector = MeshDetector.load()
    tracker = Tracker(detector, TrackerConfig(check_every=3, denials=1))
    for index in range(7):
        found = tracker.update(Frame(scene, index, 0, 0))
        tracker.settle(Frame(scene, index, 0, 0))
        assert found is not None
        assert found.landmarks[:, 0].mean() < 300
    assert (tracker.counts.checked, tracker.counts.lost) == (2, 0)
    close_by = scene.copy()
    close_by[70:630, 600:1080] = cv2.resize(head, (480, 560))
    middles = []
    for index in range(7, 12):
        found = tracker.update(Frame(close_by, index, 0, 0))
        tracker.settle(Frame(close_by, index, 0, 0))
        middles.append(None if found is None else float(found.landmarks[:, 0].mean()))
    detector.close()
    assert max(middles[:3]) < 300
    assert middles[3] is None
    assert middles[4] > 600
    assert (tracker.counts.checked, tracker.counts.lost, tracker.counts.searched) == (3, 1, 2)


# ---- alignment -------------------------------------------------------------------------------------------------------


def square(tracker: Tracker, detection: Detection, index: int) -> np.ndarray:
    return transform(tracker.align(detection, SIZE, index / FPS), CORNERS)


def exact(detection: Detection) -> np.ndarray:
    return transform(invert(frame_to_crop(detection.landmarks, detection.layout, SIZE)), CORNERS)


def test_the_first_frame_of_a_track_is_not_smoothed() -> None:
    tracker = Tracker(Script("", ""))
    for index, angle in enumerate((0.3, -2.0)):
        tracker.reset()
        detection = face(index, (300 + 90 * index, 200), 250, angle)
        np.testing.assert_allclose(square(tracker, detection, index), exact(detection), atol=1e-6)


def test_a_still_face_is_calmed_at_least_twice() -> None:
    """Landmark noise of 0.7 px on a face of a 720p webcam: both the trembling from frame to frame and the spread."""
    tracker = Tracker(Script("", ""))
    shots = [face(i, (640, 360), 330, noise=0.7) for i in range(150)]
    raw = np.array([exact(d) for d in shots])[15:]
    smooth = np.array([square(tracker, d, i) for i, d in enumerate(shots)])[15:]
    assert np.abs(np.diff(raw, axis=0)).mean() > 3 * np.abs(np.diff(smooth, axis=0)).mean()
    assert raw.std(axis=0).mean() > 2 * smooth.std(axis=0).mean()
    assert np.abs(smooth.mean(axis=(0, 1)) - 639.5 * np.array([1, 0]) - 359.5 * np.array([0, 1])).max() < 1


@pytest.mark.parametrize("side", [200.0, 330.0])
def test_a_moving_head_lags_less_than_four_pixels(side: float) -> None:
    """400 pixels a second, from standing still, and to and fro once a second."""
    for path in (lambda t: 300 + 400 * max(0.0, t - 0.3), lambda t: 640 + 400 / math.tau * math.sin(math.tau * t)):
        tracker = Tracker(Script("", ""))
        for i in range(60):
            detection = face(i, (path(i / FPS), 360), side)
            lag = np.abs(square(tracker, detection, i) - exact(detection)).max()
            assert lag < 4.0


def test_the_square_stays_a_square_and_turns_through_half_a_circle() -> None:
    tracker = Tracker(Script("", ""))
    for i in range(120):
        angle = i * 0.06  # more than once around
        detection = face(i, (400, 300), 200 + i, angle)
        affine = tracker.align(detection, SIZE, i / FPS)
        linear = affine[:, :2]
        np.testing.assert_allclose(linear @ linear.T, np.eye(2) * np.linalg.det(linear), atol=1e-9)
        turned = math.atan2(linear[1, 0], linear[0, 0])
        assert abs(math.remainder(turned - angle, math.tau)) < 0.08
        assert math.sqrt(np.linalg.det(linear)) * SIZE == pytest.approx(200 + i, rel=0.03)


def test_near_and_far_faces_are_calmed_alike() -> None:
    """Everything twice as large, noise included, is smoothed to everything twice as large."""
    a, b = Tracker(Script("", "")), Tracker(Script("", ""))
    for i in range(40):
        near = face(i, (400 + 6 * i, 300), 300, noise=1.0)
        far = Detection(i, near.box, near.landmarks / 2, "points68", 1.0)
        np.testing.assert_allclose(square(a, near, i), 2 * square(b, far, i), atol=1e-3)


def test_smoothing_can_be_switched_off() -> None:
    tracker = Tracker(Script("", ""), TrackerConfig(smooth=False))
    for i in range(5):
        detection = face(i, (300, 300), 200, noise=2.0)
        np.testing.assert_allclose(square(tracker, detection, i), exact(detection))


def test_a_face_found_anew_does_not_slide_from_the_old_place() -> None:
    detector = Script("n", "yy")
    tracker = Tracker(detector)
    shots = frames(2)
    tracker.update(shots[0])
    square(tracker, face(0, (100, 100), 80), 0)
    tracker.update(shots[1])
    elsewhere = face(1, (500, 300), 160, 0.5)
    np.testing.assert_allclose(square(tracker, elsewhere, 1), exact(elsewhere), atol=1e-6)


def test_five_points_are_aligned_too() -> None:
    points = (TEMPLATE_5 * 240 + 50).astype(np.float32)
    detection = Detection(0, np.zeros(4, np.float32), points, "points5", 1.0)
    corners = square(Tracker(Script("", "")), detection, 0)
    step = 240 / SIZE
    np.testing.assert_allclose(corners[0], 50 + step / 2, atol=1e-3)
    np.testing.assert_allclose(corners[2] - corners[0], 127 * step, atol=1e-3)


def test_landmarks_that_span_nothing() -> None:
    detection = Detection(0, np.zeros(4, np.float32), np.ones((68, 2), np.float32), "points68", 1.0)
    with pytest.raises(DetectorError):
        Tracker(Script("", "")).align(detection, SIZE, 0.0)


def test_the_square_stays_on_the_face_when_time_stands_still() -> None:
    """After a clock that ran backwards, time stamps grew by a nanosecond, and the square stayed where the face was."""
    tracker = Tracker(Script("", ""))
    for i in range(40):
        detection = face(i, (300 + 5 * i, 360), 250)
        shown = transform(tracker.align(detection, SIZE, 1 + i * 1e-9), CORNERS)
        assert np.abs(shown - exact(detection)).max() < 0.1 * 250
