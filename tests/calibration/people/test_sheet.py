"""Contact sheets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibration.people.sheet import columns_for, contact_sheet, sheet_size
from calibration.people.state import State


@pytest.mark.parametrize("count", [*range(1, 40), 100, 997])
def test_grids_are_about_as_wide_as_a_screen_and_nearly_full(count):
    columns = columns_for(count)
    rows = -(-count // columns)
    assert columns <= count
    assert rows * columns - count < columns
    if count >= 6:
        assert 0.8 < columns / rows < 3.2


class Studio:
    """Renders flat pictures: who gives the blue, the state's yaw the green."""

    def render(self, who, state, *, style, crop_size, margin, hair):
        colour = (who.seed, state.yaw, 200 if hair else 100)
        return SimpleNamespace(pixels=np.full((crop_size, crop_size, 3), colour, np.uint8))


def test_a_sheet_has_a_row_for_each_person_and_a_column_for_each_state():
    people, states = [SimpleNamespace(seed=10), SimpleNamespace(seed=20)], [State(yaw=y) for y in (1, 2, 3)]
    seen = []
    sheet = contact_sheet(Studio(), people, states, size=64, progress=lambda *n: seen.append(n))
    assert seen == [(n, 6) for n in range(1, 7)]
    gap, line = 2, 12
    assert sheet.shape == (2 * (64 + line + gap) + gap, 3 * (64 + gap) + gap, 3)
    for row, who in enumerate(people):
        for column, state in enumerate(states):
            y, x = gap + row * (64 + line + gap), gap + column * (64 + gap)
            assert (sheet[y : y + 64, x : x + 64] == (who.seed, state.yaw, 200)).all()
    captions = [sheet[y : y + line, gap : gap + 64] for y in (gap + 64, gap + 64 + 64 + line + gap)]
    assert not np.array_equal(*captions)  # the seeds
    assert all(c.min() < 120 for c in captions)


def test_one_state_makes_a_grid_of_people():
    sheet = contact_sheet(Studio(), [SimpleNamespace(seed=s) for s in range(5)], [State()], size=64, hair=False)
    assert sheet.shape[1::-1] == sheet_size(5, 1, 64)
    columns = columns_for(5)
    assert sheet.shape[1] == columns * 66 + 2
    assert (sheet[2:66, 2:66, 2] == 100).all()
