"""Which modes are asked for and in which order, against tables of real cameras; the verdict on what came."""

from __future__ import annotations

import pytest

from realtime.negotiate import MAX_ATTEMPTS, Negotiation, Wish, another_may_do, attempts, best_of
from realtime.v4l2_modes import Mode

HD = (1280, 720)
WISH = Wish("MJPG", HD, 30.0)


def plan(modes: list[Mode], wish: Wish = WISH) -> list[tuple[str | None, tuple[int, int] | None, float | None]]:
    found = attempts(modes, wish)
    assert 1 <= len(found) <= MAX_ATTEMPTS
    assert all(attempt.why for attempt in found)
    return [(attempt.fourcc, attempt.size, attempt.rate) for attempt in found]


def test_the_stated_order() -> None:
    webcam = [  # as a C920 lists them: raw first
        Mode("YUYV", (640, 480), (30.0,)), Mode("YUYV", HD, (10.0,)), Mode("H264", HD, (30.0,)),
        Mode("MJPG", (640, 480), (30.0,)), Mode("MJPG", (1920, 1080), (30.0,)), Mode("MJPG", HD, (60.0, 30.0, 15.0)),
    ]  # fmt: skip
    assert plan(webcam) == [
        ("MJPG", HD, 30.0),  # 1, and not at 60
        ("MJPG", (1920, 1080), 30.0),  # 3: of the same shape
        ("MJPG", (640, 480), 30.0),
        ("YUYV", HD, 10.0),  # 4
    ]
    assert attempts(webcam, WISH)[0].why == "as asked"


def test_another_format_comes_before_another_size() -> None:
    modes = [Mode("MJPG", (640, 360), (30.0,)), Mode("YUYV", HD, (30.0,)), Mode("NV12", HD, (30.0,))]
    assert plan(modes) == [("NV12", HD, 30.0), ("YUYV", HD, 30.0), ("MJPG", (640, 360), 30.0), (None, None, None)]
    raw = [Mode(fourcc, size, (30.0,)) for fourcc in ("NV12", "NV21", "YU12", "YUYV") for size in (HD, (640, 480))]
    sizes = [size for _, size, _ in plan(raw)]
    assert sizes == [HD, HD, (640, 480), None], "a third raw format does not take the smaller size's place"


@pytest.mark.parametrize(("rate", "kept"), [(25.0, True), (24.0, True), (20.0, False)])
def test_europes_and_the_cinemas_rates_are_as_good(rate: float, kept: bool) -> None:
    modes = [Mode("MJPG", HD, (rate,)), Mode("MJPG", (640, 480), (30.0,))]
    assert (plan(modes)[0] == ("MJPG", HD, rate)) is kept


def test_a_smaller_picture_before_a_larger_one_and_the_shape_first() -> None:
    sizes = [(1920, 1080), (640, 360), (960, 540), (1024, 768), (640, 480)]
    modes = [Mode("MJPG", size, (30.0,)) for size in sizes]
    assert [size for _, size, _ in plan(modes)] == [(960, 540), (640, 360), None]


def test_a_camera_that_tells_nothing() -> None:
    assert plan([]) == [("MJPG", HD, 30.0), (None, HD, 30.0), ("MJPG", (640, 480), 30.0), (None, None, None)]
    assert plan([Mode("H264", HD, (30.0,))])[1] == (None, HD, 30.0), "what OpenCV cannot read does not count"
    assert plan([Mode("MJPG", HD, ())])[0] == ("MJPG", HD, 30.0)
    assert plan([Mode("MJPG", HD, (30.0,))], Wish("MJPG", None, None)) == [("MJPG", None, None), (None, None, None)]


def got(fourcc: str, size: tuple[int, int], fps: float | None, slows: bool | None = None) -> Negotiation:
    return Negotiation("MJPG", HD, 30.0, fourcc, size, fps, slows)


def test_each_fault_is_named() -> None:
    assert got("MJPG", HD, 29.6).faults() == []
    assert str(got("MJPG", HD, 29.6)) == "asked MJPG 1280x720@30, got MJPG 1280x720 at 29.6 fps"
    raw = got("YUYV", HD, 9.8)
    assert "YUYV, not MJPG" in str(raw)
    assert "USB 2" in str(raw)
    assert "USB 2" not in str(got("YUYV", (640, 480), 15.0))
    assert "size differs" in str(got("MJPG", (640, 480), 15.0))
    assert "dim light" in str(got("MJPG", HD, 15.0))
    assert "--steady-rate" in str(got("MJPG", HD, 15.0, slows=True))
    assert "USB hub" in str(got("MJPG", HD, 15.0, slows=False))
    unknown = Negotiation("MJPG", None, None, "", (640, 480), None)
    assert unknown.faults() == []
    assert "default size" in str(unknown)


def test_when_another_attempt_is_worth_it() -> None:
    assert not another_may_do(got("MJPG", HD, 29.0))
    assert not another_may_do(got("MJPG", HD, 15.0)), "dim light is likely"
    assert not another_may_do(got("MJPG", HD, 15.0, slows=True))
    assert another_may_do(got("MJPG", HD, 15.0, slows=False))
    assert another_may_do(got("YUYV", HD, 10.0, slows=True))


def test_the_best_of_the_bad() -> None:
    assert best_of([got("YUYV", HD, 9.8), got("MJPG", HD, 15.0), got("YUYV", (640, 480), 15.2)]) == 1
    assert best_of([got("YUYV", HD, None), got("MJPG", HD, 3.0)]) == 1
    assert best_of([got("YUYV", HD, 60.0), got("MJPG", HD, 30.0)]) == 0, "more than asked is no better"
