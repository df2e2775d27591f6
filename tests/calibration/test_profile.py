"""Profiles: what is written is read again, old files are upgraded, new and damaged ones refused, people forgotten."""

import json
from datetime import datetime, timezone

import numpy as np
import pytest

from calibration import profile as profiles
from calibration.consent_forget import derived_of, forget
from calibration.consent_store import ConsentStore
from calibration.profile import DelayPart, Light, MachinePart, Profile, WearerPart, changed, decode
from calibration.profile_store import ProfileStore
from engines.errors import DataError, SettingsError
from engines.wearer import WearerCalibration

WEARER = WearerCalibration(np.array([1.1, 0.9], np.float32), np.array([0.25, -3.0], np.float32), "a" * 64)


def full(name="default"):
    return Profile(
        name=name,
        wearer=WearerPart.of(WEARER, frames=300, rest={"smile": 0.4}),
        lights=(Light(name="evening", persona="kofi", face=(0.1, 0.2, 0.3), gain=(1.1, 1.0, 0.9)),),
        delay=DelayPart(camera_ms=61.2, pipeline_ms=18.0),
        machine=MachinePart(
            machine="m", tier="tiny", runtime="openvino", precision="int8", fps=30, holds=True, why="w", frame_ms=9.0
        ),
    )


def test_a_profile_survives_its_file(tmp_path):
    store = ProfileStore(tmp_path)
    path = store.save(full("studio"))
    assert store.load("studio") == full("studio")
    assert store.names() == ["studio"]
    kept = store.load("studio").wearer.calibration()
    assert np.array_equal(kept.gain, WEARER.gain)
    assert np.array_equal(kept.shift, WEARER.shift)
    assert len(path.read_text().splitlines()) < 60, "rows of numbers stand in one line"
    assert [entry.name for entry in path.parent.iterdir()] == ["studio.json"], "nothing is left beside it"


def test_a_copy_under_another_name_is_another_profile(tmp_path):
    store = ProfileStore(tmp_path)
    path = store.save(full("studio"))
    path.with_name("couch.json").write_bytes(path.read_bytes())
    assert store.load("couch").name == "couch"


def test_version_1_is_upgraded_by_name(tmp_path):
    WEARER.save(tmp_path / "old.json")  # what version 1 was: the calibration alone
    found = decode((tmp_path / "old.json").read_bytes(), "old")
    assert found.schema_version == 2
    assert found.lights == ()
    assert np.array_equal(found.wearer.calibration().shift, WEARER.shift)
    assert profiles.UPGRADES.keys() == set(range(1, profiles.SCHEMA_VERSION)), "every old version has its upgrade"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 3}, "update personacam"),
        ({"schema_version": 0}, "no schema_version"),
        ({"schema_version": True}, "no schema_version"),
        ({"unknown": 1}, "unknown"),
        ({"wearer": {"gain": [1.0], "shift": [0.0, 1.0]}}, "one length"),
        ({"wearer": {"gain": [-1.0], "shift": [0.0]}}, "positive"),
        ({"delay": {"camera_ms": -4}}, "camera_ms"),
        ({"name": "../x"}, "name"),
    ],
)
def test_what_is_no_profile_is_refused_with_its_reason(change, says):
    fields = json.loads(full().encode()) | change
    with pytest.raises(DataError, match=says):
        decode(json.dumps(fields).encode(), "f")


def test_damaged_and_missing_files(tmp_path):
    store = ProfileStore(tmp_path)
    store.save(full("studio"))
    with pytest.raises(SettingsError, match="studio"):
        store.load("studip")
    store.path("studio").write_text('{"schema_version": 2, "schema_version": 2}')
    with pytest.raises(DataError, match="twice"):
        store.load("studio")
    with pytest.raises(SettingsError, match="name"):
        store.path("../../etc")
    store.path("studio").unlink()
    assert store.load_or_new("studio") == Profile(name="studio")


def test_a_light_of_the_same_name_is_exchanged():
    again = Light(name="evening", persona="kofi", face=(0.2, 0.2, 0.2), gain=(1.0, 1.0, 1.0))
    other = Light(name="evening", persona="vera", face=(0.2, 0.2, 0.2), gain=(1.0, 1.0, 1.0))
    assert full().with_light(again).lights == (again,)
    assert len(full().with_light(other).lights) == 2


def test_edits_by_field(tmp_path):
    edited = changed(full(), ["delay.camera_ms=80", "lights.0.name=noon", "wearer=null"])
    assert (edited.delay.audio_offset_ms, edited.lights[0].name, edited.wearer) == (98, "noon", None)
    assert changed(full(), ["lights.0.name=7"]).lights[0].name == "7"
    for field in ("delay.camera=1", "nothing", "lights.4.name=x", "delay.camera_ms.x=1"):
        with pytest.raises(SettingsError):
            changed(full(), [field])
    with pytest.raises(DataError, match="camera_ms"):
        changed(full(), ["delay.camera_ms=soon"])


def test_forgetting_a_person_takes_their_profile_and_their_personas_colours(tmp_path):
    store, profile_store = ConsentStore(tmp_path), ProfileStore(tmp_path)
    own = full("own").model_copy(update={"person": "kofi"})
    for each in (own, full("other"), full("plain").model_copy(update={"lights": ()})):
        profile_store.save(each)
    things = [thing for thing in derived_of(store, "kofi") if thing.kind == "profile"]
    assert sorted(thing.path.stem for thing in things) == ["other", "own"]
    assert forget(store, "kofi", things, datetime(2026, 1, 1, tzinfo=timezone.utc)) == []
    assert profile_store.names() == ["other", "plain"]
    left = profile_store.load("other")
    assert left.lights == ()
    assert left.wearer is not None, "only the persona's colours go"
    assert b"kofi" not in profile_store.path("other").read_bytes()
