"""Tufts as vertices, and the texture that splits them into strands."""

from __future__ import annotations

import numpy as np

from calibration.people.hair.tufts import TuftPlan, mesh, strand_texture, tuft_indices


def _plan(n, k):
    points = np.zeros((n, k, 3))
    points[..., 1] = -np.linspace(0, 1, k)
    one = np.ones((n, k))
    return TuftPlan(
        points=points, normals=np.tile([0.0, 0, 1], (n, k, 1)), length=np.full(n, 2.0), width=0.1 * one, cover=one,
        light=one, colour=np.full((n, k, 3), 0.2), head_weight=one,
    )  # fmt: skip


def test_a_ribbon_becomes_two_rows_of_vertices():
    tufts = mesh(_plan(3, 5), np.random.default_rng(0))
    assert tufts.vertices.shape == (3, 5, 2, 19)
    assert (tufts.vertices[:, :, 0, 9] == -1).all()
    assert (tufts.vertices[:, :, 1, 9] == 1).all()
    assert np.allclose(tufts.vertices[..., 3:6], [0, -1, 0])
    assert np.allclose(np.ptp(tufts.vertices[..., 14], axis=1), 2.0 / 3.2)


def test_triangles_use_every_vertex_of_their_own_tuft():
    indices = tuft_indices(4, 6)
    for i, row in enumerate(indices):
        assert set(row.tolist()) == set(range(i * 12, i * 12 + 12))


def test_the_strand_texture_is_even_and_runs_along():
    straight, curly = (strand_texture(curly=c).astype(float) for c in (False, True))
    for picture in (straight, curly):
        rank = picture[..., 0] / 255
        assert np.allclose([(rank < t).mean() for t in (0.25, 0.5, 0.75)], [0.25, 0.5, 0.75], atol=0.02)
    along, across = (np.abs(np.diff(straight[..., 0], axis=a)).mean() for a in (0, 1))
    assert across > 4 * along
    along, across = (np.abs(np.diff(curly[..., 0], axis=a)).mean() for a in (0, 1))
    assert across < 4 * along
