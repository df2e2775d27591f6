"""A picture that somebody still looks at is never handed out again."""

from __future__ import annotations

import gc

from realtime.ring import PictureRing


def test_pictures_come_again_when_nobody_holds_them():
    ring = PictureRing((8, 6))
    seen = set()
    for _ in range(20):
        picture = ring.next()
        seen.add(picture.ctypes.data)
        assert picture.shape == (6, 8, 3)
        del picture
    assert len(seen) == 3
    assert ring.extra == 0


def test_a_held_picture_and_a_view_of_one_are_left_alone():
    ring = PictureRing((8, 6))
    held = ring.next()
    view = ring.next()[2:4]
    held.fill(1)
    view.fill(2)
    for _ in range(10):
        ring.next().fill(9)
    assert (held == 1).all()
    assert (view == 2).all()


def test_more_holders_than_pictures_cost_memory_and_nothing_else():
    ring = PictureRing((8, 6), 2)
    kept = []
    for value in range(5):
        kept.append(ring.next())
        kept[-1].fill(value)
    assert [int(one[0, 0, 0]) for one in kept] == [0, 1, 2, 3, 4]
    assert ring.extra == 3
    kept.clear()
    gc.collect()
    assert ring.next() is not ring.next()
    assert ring.extra == 3
