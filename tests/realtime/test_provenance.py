"""The visible label: where it should be, only there, legible, and not to be switched off for real people."""

import numpy as np
import pytest

from engines.errors import SettingsError
from realtime.provenance import Label, draw_plate, resolve_label

SIZES = [(1280, 720), (640, 360), (1920, 1080), (720, 1280), (320, 240), (64, 64)]
POSITIONS = ["top-right", "top-left", "bottom-right", "bottom-left"]


def drawn(label, size, level=128):
    out = np.full((size[1], size[0], 3), level, np.uint8)
    label.draw(out)
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("position", POSITIONS)
def test_the_label_is_in_its_corner_and_only_there(size, position):
    label = Label(position=position)
    out = drawn(label, size)
    x0, y0, x1, y1 = label.box(size)
    changed = (out != 128).any(axis=2)
    assert changed[y0:y1, x0:x1].mean() > 0.8
    changed[y0:y1, x0:x1] = False
    assert not changed.any()
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    to_left, to_right, to_top, to_bottom = x0, size[0] - x1, y0, size[1] - y1
    assert (to_right < to_left) == position.endswith("right") or to_left == to_right
    assert (to_top < to_bottom) == position.startswith("top")


def test_its_height_follows_the_picture():
    assert [Label().box(size)[3] - Label().box(size)[1] for size in SIZES[:3]] == [29, 14, 43]
    label = Label(height_fraction=0.1)
    assert label.box((1280, 720))[3] - label.box((1280, 720))[1] == 72


@pytest.mark.parametrize("level", [0, 128, 255])
def test_letters_stand_out_on_any_ground(level):
    label = Label()
    out = drawn(label, (1280, 720), level)
    x0, y0, x1, y1 = label.box((1280, 720))
    plate = out[y0:y1, x0:x1].astype(int).mean(axis=2)
    letters, ground = plate > 200, plate < 115
    assert 0.05 < letters.mean() < 0.4
    assert ground.mean() > 0.4
    # Letters in the middle, a margin of plain plate around.
    rows, columns = np.flatnonzero(letters[3:-3, 6:-6].any(axis=1)), np.flatnonzero(letters[3:-3, 6:-6].any(axis=0))
    assert abs((rows[0] + rows[-1]) / 2 - (len(letters) - 7) / 2) <= 1.5
    assert columns[-1] - columns[0] > 0.6 * (x1 - x0)


def test_the_corners_are_round_and_smooth():
    _, alpha = draw_plate("AI MODIFIED", 40)
    assert alpha[0, 0] == 0
    assert alpha[20, 1] > 150
    assert ((alpha[:10, :10] > 0) & (alpha[:10, :10] < 165)).any()


def test_other_words_and_the_same_picture_twice():
    assert Label("AI").box((1280, 720))[0] > Label("AI MODIFIED").box((1280, 720))[0]
    label = Label()
    np.testing.assert_array_equal(drawn(label, (640, 360)), drawn(label, (640, 360)))
    # Another size in between lays it out anew.
    drawn(label, (1280, 720))
    np.testing.assert_array_equal(drawn(label, (640, 360)), drawn(Label(), (640, 360)))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (16, 5), (8, 200)])
def test_a_tiny_picture_does_not_break_it(size):
    assert drawn(Label(), size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"text": ""},
        {"text": "  "},
        {"text": "KI-Äh"},
        {"text": "a\nb"},
        {"position": "middle"},
        {"height_fraction": 0.9},
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(SettingsError):
        Label(**arguments)


def test_only_invented_people_may_go_without():
    assert resolve_label(True, "person")
    assert resolve_label(True, "invented")
    assert not resolve_label(False, "invented")
    with pytest.raises(SettingsError, match="real person"):
        resolve_label(False, "person")
