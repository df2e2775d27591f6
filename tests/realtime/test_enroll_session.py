"""From the shipped clip of an invented wearer to a face set: choice, refusals, interruption, gates."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.consent import Party, sign_record
from calibration.consent_keys import public_hex
from calibration.enrollment import EnrollOptions
from engines.errors import ConsentFootageError, ConsentMissingError, DataError, NoFaceError, OtherPersonError
from engines.faceset import GATHERED, read_faceset, read_index
from engines.types import Frame
from realtime.enroll_session import enroll_files, enroll_footage, frames_of
from realtime.recorder import RecorderSink
from realtime.session import demo_clip
from tests.calibration.consent_world import ADA, EVE, World, record_of

OPTIONS = EnrollOptions(frames=10, least=6, size=96)
STEP = 5


def somebody(_crop, _landmarks):
    return np.ones(128) / 16


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    """16 pictures of the clip, a sixth of a second apart."""
    found = []
    for frame in frames_of([demo_clip()]):
        if frame.index % STEP == 0:
            found.append(Frame(frame.pixels, len(found), 0, frame.timestamp_ns))
        if len(found) == 16:
            return found
    raise AssertionError("the clip is too short")


def enroll(frames, out: Path, **changes):
    return enroll_footage(
        frames, "tomo", out, **({"consent": "invented:1", "options": OPTIONS, "embed": somebody} | changes)
    )


@pytest.fixture(scope="module")
def enrolled(clip, tmp_path_factory):
    told = []
    out = tmp_path_factory.mktemp("enrolled") / "tomo"
    return enroll(clip, out, progress=told.append), told


def test_the_set_holds_faces_as_training_wants_them(enrolled, clip):
    done, told = enrolled
    assert (done.frames, done.seen, done.stopped) == (10, 16, "end")
    found = read_faceset(done.faceset, extras=("mesh",))
    faces = found.faces["tomo"]
    assert found.info.consent == "invented:1"
    assert (faces.role, faces.split, len(faces.states)) == ("persona", "train", 10)
    assert set(faces.states.tolist()) <= {frame.index for frame in clip}
    # Centred in the family's crop: the eyes' middle lies above its centre, whatever the head does.
    eyes = faces.landmarks[:, 36:48].mean(axis=1)
    assert np.abs(eyes[:, 0] - 48).max() < 10
    assert (eyes[:, 1] < 48).all()
    np.testing.assert_allclose(faces.landmarks[:, 30], faces.extras["mesh"][:, 4], atol=1e-4)
    assert ((faces.masks > 127).mean(axis=(1, 2)) > 0.15).all()
    assert told[-1].seen == 16
    assert told[-1].kept >= 10
    assert all(a.seen < b.seen for a, b in itertools.pairwise(told))


def test_the_report_says_what_is_missing_and_draws_it(enrolled):
    done, _ = enrolled
    assert cv2.imread(str(done.picture)).shape[1] > 1000
    assert "turn: far left" in done.missing
    assert 0.3 < done.share < 1
    assert sum(done.skipped.values()) == done.seen - done.frames


def test_a_finished_folder_is_returned_and_another_one_refused(enrolled, clip):
    done, _ = enrolled
    before = (done.faceset / "manifest.json").read_bytes()
    again = enroll(iter(()), done.folder)
    assert again == done
    assert (done.faceset / "manifest.json").read_bytes() == before
    with pytest.raises(DataError, match="another face set"):
        enroll(clip, done.folder, consent="invented:2")


def test_it_stops_when_there_is_enough(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("calibration.coverage.Coverage.enough", property(lambda self: self.total >= 6))
    done = enroll(clip, tmp_path / "out")
    assert done.stopped == "enough"
    assert done.seen < 16


def test_an_interruption_loses_nothing(enrolled, clip, tmp_path):
    whole, _ = enrolled
    stop = threading.Event()

    def half_way(p):
        if p.seen == 6:
            stop.set()

    part = enroll(clip, tmp_path / "out", stop=stop, progress=half_way)
    assert part.stopped == "interrupted"
    assert (part.faceset / GATHERED).exists()
    assert read_index(part.faceset).shards == ()

    def ctrl_c():
        yield from clip[:9]
        raise KeyboardInterrupt

    assert enroll(ctrl_c(), tmp_path / "out").seen == 9
    done = enroll(clip, tmp_path / "out")
    assert (done.seen, done.frames, done.stopped) == (16, 10, "end")
    assert not (done.faceset / GATHERED).exists()
    assert abs(done.share - whole.share) < 0.2


def test_somebody_else_half_way_is_refused(clip, tmp_path):
    asked = []

    def changing(_crop, _landmarks):
        asked.append(1)
        return np.full(128, 1 / 16 if len(asked) < 6 else -1 / 16)

    with pytest.raises(OtherPersonError, match="somebody else"):
        enroll(clip, tmp_path / "out", embed=changing)


def test_footage_without_a_face_is_refused_with_the_reason(tmp_path):
    grey = [Frame(np.full((120, 160, 3), 90, np.uint8), i, 0, i * 33_000_000) for i in range(8)]
    with pytest.raises(NoFaceError, match=r"0 usable faces .* no face was found \(8\)"):
        enroll(grey, tmp_path / "out")


def test_blurred_footage_and_two_faces_are_left_out(clip, tmp_path):
    blurred = [Frame(cv2.GaussianBlur(f.pixels, (0, 0), 9), f.index, 0, f.timestamp_ns) for f in clip[:4]]
    with pytest.raises(NoFaceError, match="blurred"):
        enroll(blurred, tmp_path / "blurred", options=EnrollOptions(frames=10, size=240))
    twins = [Frame(np.ascontiguousarray(np.hstack([f.pixels[:, 300:980]] * 2)), f.index, 0, f.timestamp_ns)
             for f in clip[:4]]  # fmt: skip
    with pytest.raises(NoFaceError, match="more than one face") as caught:
        enroll(twins, tmp_path / "twins")
    assert "nobody else is in the picture" in caught.value.hint


def test_files_go_through_the_gates(clip, tmp_path):
    world = World(tmp_path, now=datetime(2026, 3, 1, tzinfo=timezone.utc))
    film, out = tmp_path / "ada-2.mp4", tmp_path / "out"
    recorder = RecorderSink(film)
    recorder.open(clip[0].size, 6)
    for frame in clip[:8]:
        recorder.send(frame.pixels, frame)
    recorder.close()
    options = EnrollOptions(frames=6, least=4, size=96)

    def run():
        return enroll_files([film], "ada", out, world.gate, options=options, embed=somebody)

    with pytest.raises(ConsentMissingError):
        run()
    world.footage.write_bytes(b"other footage")
    world.gate.store.add(sign_record(record_of(world.footage, world.key), ADA))
    with pytest.raises(ConsentFootageError):
        run()
    assert not out.exists()
    world.gate.store.add(sign_record(record_of(film, world.key, asked="2026-02-03T00:00:00Z"), ADA))
    done = run()
    info = read_index(done.faceset).info
    assert (info.consent, info.footage) == world.gate.extract("ada", [film])
    logged = [e.details.get("faceset") for e in world.gate.store.log.entries() if e.event == "extract"]
    assert read_index(done.faceset).digest in logged
    world.gate.train("ada", done.faceset, tmp_path / "run")
    # A later record of the same person goes on with the set; somebody else's does not.
    world.gate.store.add(sign_record(record_of(film, world.key, asked="2026-02-04T00:00:00Z"), ADA))
    assert run().faceset == done.faceset
    assert read_index(done.faceset).info.consent == info.consent
    other = Party(name="Eve Example", key=public_hex(EVE))
    world.gate.store.add(sign_record(record_of(film, world.key, subject=other, asked="2026-02-05T00:00:00Z"), EVE))
    with pytest.raises(DataError, match="another consent record"):
        run()
