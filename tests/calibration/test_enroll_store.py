"""What is gathered comes back as it was, and becomes a face set."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from calibration import enroll_store
from calibration.enroll_store import Candidate, Gathered
from calibration.face_reading import COLUMNS
from calibration.quality_gates import Fault
from engines.errors import DataError
from engines.faceset import GATHERED, read_faceset
from engines.faceset_writer import FaceSetWriter

SIZE = 64


def candidates(count: int) -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [
        Candidate(
            3 * i, enroll_store.encode(np.full((SIZE, SIZE, 3), 40 + i, np.uint8)),
            rng.uniform(10, 54, (468, 2)).astype(np.float32), rng.normal(size=len(COLUMNS)),
        )
        for i in range(count)
    ]  # fmt: skip


def test_gathered_comes_back(tmp_path):
    before = Gathered(candidates(5), [np.arange(128.0)], 77, 1.25, Counter({Fault.NO_FACE: 3, Fault.ALIKE: 9}))
    enroll_store.save(tmp_path, before)
    after = enroll_store.load(tmp_path)
    assert (after.seen, after.step, after.skipped) == (77, 1.25, before.skipped)
    np.testing.assert_array_equal(after.known, before.known)
    for a, b in zip(after.candidates, before.candidates, strict=True):
        assert (a.state, a.crop) == (b.state, b.crop)
        np.testing.assert_array_equal(a.mesh, b.mesh)
        np.testing.assert_array_equal(a.row, b.row)


def test_nothing_gathered_is_nothing_and_damage_is_named(tmp_path):
    assert enroll_store.load(tmp_path).candidates == []
    enroll_store.save(tmp_path, Gathered())
    assert enroll_store.load(tmp_path).seen == 0
    (tmp_path / GATHERED).write_bytes(b"PK nothing of the kind")
    with pytest.raises(DataError, match="damaged"):
        enroll_store.load(tmp_path)


def test_a_set_is_written_in_the_order_of_its_frames_and_continued_after_a_kill(tmp_path):
    found = candidates(enroll_store.SHARD + 7)
    info = enroll_store.info_of("invented:4", (), SIZE)
    with FaceSetWriter(tmp_path, info) as writer:
        enroll_store.save(tmp_path, Gathered(found))
        enroll_store.write_faces(writer, "ada", found[:20])  # a kill after the first shard
    with FaceSetWriter(tmp_path, info) as writer:
        enroll_store.write_faces(writer, "ada", found[::-1])
    faces = read_faceset(tmp_path, extras=("mesh",)).faces["ada"]
    assert faces.states.tolist() == [c.state for c in found]
    np.testing.assert_allclose(faces.extras["mesh"], np.stack([c.mesh for c in found]))
    assert faces.crops[30, 30, 30].tolist() == [70, 70, 70]
    assert (faces.masks[0] > 127).mean() > 0.1
    np.testing.assert_allclose(faces.pose, [c.row[:3] for c in found], rtol=1e-6)
    assert not (tmp_path / GATHERED).exists()
