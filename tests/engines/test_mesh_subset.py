from __future__ import annotations

from engines.facemesh import POINTS
from engines.geometry import ALIGN_POINTS_68, MESH_TO_68
from engines.mesh_subset import MESH_SUBSET


def test_the_subset_is_fixed_and_within_the_mesh():
    assert len(MESH_SUBSET) == len(set(MESH_SUBSET.tolist())) == 127
    assert 0 <= MESH_SUBSET.min() <= MESH_SUBSET.max() < POINTS
    # Trained weights know this order: a changed sum means that they no longer fit.
    assert int((MESH_SUBSET * range(1, 128)).sum()) == 1_728_440


def test_it_has_the_corners_that_eyes_and_mouth_turn_on():
    corners = {33, 133, 362, 263, 61, 291, 13, 14, 152}
    assert corners <= set(MESH_SUBSET.tolist())
    assert len(set(MESH_TO_68[ALIGN_POINTS_68].tolist()) & set(MESH_SUBSET.tolist())) >= 8
