"""The report: every topic is there, every fault has a repair, and it is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines.errors import DeviceError, DeviceFault
from engines.runtimes.cuda import Card
from realtime import doctor
from realtime.doctor import Finding, diagnose, to_dict


def test_every_topic_is_looked_at_and_every_fault_has_a_repair(tmp_path: Path) -> None:
    found = diagnose(lambda: [("ada", True, "invented"), ("bob", False, "damaged")], tmp_path)
    assert {finding.topic for finding in found} >= {
        "python", "packages", "cpu", "camera", "virtual camera", "runtime", "recording", "display",
        "insightface models", "persona",
    }  # fmt: skip
    assert all(finding.repair for finding in found if finding.state != "ok")
    personas = [finding for finding in found if finding.topic == "persona"]
    assert [finding.state for finding in personas] == ["ok", "fail"]
    assert "bob.persona" in (personas[1].repair or "")
    assert any(finding.state == "ok" for finding in found if finding.topic == "runtime")
    assert next(finding for finding in found if finding.topic == "recording").state == "ok"


def test_json() -> None:
    report = to_dict([Finding("a", "warn", "b", "c"), Finding("d", "ok", "e")])
    assert json.loads(json.dumps(report)) == {
        "findings": [
            {"topic": "a", "state": "warn", "text": "b", "repair": "c"},
            {"topic": "d", "state": "ok", "text": "e", "repair": None},
        ],
        "ok": True,
    }
    assert to_dict([Finding("a", "fail", "b", "c")])["ok"] is False


def test_missing_packages_and_a_second_opencv() -> None:
    versions = {"numpy": "2.4", "opencv-python": "5.0", "opencv-python-headless": "5.0"}
    found = doctor.check_packages(versions.get)
    assert [finding.state for finding in found] == ["fail", "ok", "warn"]
    assert found[0].repair is not None
    assert "onnxruntime" in found[0].repair
    assert "opencv-python-headless" in found[2].text


def test_pythons() -> None:
    states = [doctor.check_python(version)[0].state for version in ((3, 9), (3, 10), (3, 13), (3, 14))]
    assert states == ["fail", "ok", "ok", "warn"]


def test_personas_must_exist_and_packs_are_found(tmp_path: Path) -> None:
    assert doctor.check_personas([])[0].state == "fail"
    (tmp_path / "buffalo_l").mkdir()
    (tmp_path / "buffalo_l" / "det_10g.onnx").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "buffalo_l"):
        assert f"buffalo_l in {tmp_path} " in doctor.check_insightface(folder).text
    assert "optional" in doctor.check_insightface(tmp_path / "absent").text


def test_the_virtual_camera_of_each_system(tmp_path: Path) -> None:
    for platform in ("linux", "darwin", "win32", "plan9"):
        found = doctor.check_virtual_camera(platform, tmp_path)
        assert {finding.topic for finding in found} == {"virtual camera"}
        assert all(finding.state == "ok" or finding.repair for finding in found)


def test_the_nvidia_card_and_what_is_missing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card("Fake 4090", (8, 9), 12080, 24 << 30)
    installed: set[str] = set()
    monkeypatch.setattr("realtime.engine_plan.importlib.util.find_spec", lambda name: name in installed or None)
    (missing,) = doctor.check_card(lambda: card)
    assert (missing.state, missing.repair) == ("warn", "pip install 'personacam[rtx]'")
    assert "Fake 4090 (SM 8.9, 24 GiB)" in missing.text
    (hopper,) = doctor.check_card(lambda: Card("Fake H200", (9, 0), 12080, 141 << 30))
    assert hopper.repair == "pip install 'personacam[tensorrt]'"
    installed.add("tensorrt_rtx")
    (ready,) = doctor.check_card(lambda: card)
    assert ready.state == "ok"
    assert "tensorrt-rtx" in ready.text


@pytest.mark.parametrize(("kind", "lines"), [("missing", 0), ("driver", 1), ("lost", 1)])
def test_a_driver_that_fails_is_reported_and_none_at_all_is_not(kind: DeviceFault, lines: int) -> None:
    def find() -> Card:
        raise DeviceError("broken", hint="update it", kind=kind)

    found = doctor.check_card(find)
    assert [finding.repair for finding in found] == ["update it"] * lines


def test_recordings_without_credentials_are_told(monkeypatch) -> None:
    assert "content credentials" in doctor.check_encoder().text
    monkeypatch.setattr(doctor, "missing_library", lambda: "pip install c2pa-python")
    found = doctor.check_encoder()
    assert (found.state, found.repair) == ("warn", "pip install c2pa-python")
    assert "no content credentials" in found.text
