"""A profile in a run: which one, what it sets, what stays when it does not fit; and the verbs that edit it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.calibrate_machine import machine_name
from calibration.consent_gates import shown_only
from calibration.profile import DelayPart, Light, MachinePart, Profile, WearerPart
from calibration.profile_store import ProfileStore
from engines.errors import DataError, SettingsError
from engines.persona import read_persona
from engines.wearer import WearerCalibration
from realtime import session
from realtime.blend import Blender
from realtime.calibrated import calibration_of, put_on_profile, settings_of
from realtime.cli_calibrate import _followed, calibrate_app
from realtime.config import Settings
from realtime.light_blend import LightBlender
from realtime.swap import Swapper


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "data_folder", lambda: tmp_path)
    return ProfileStore(tmp_path)


def machine(**other):
    values = {
        "machine": machine_name(), "tier": "tiny", "runtime": "onnxruntime", "precision": "f32", "fps": 30,
        "holds": True, "why": "measured", "frame_ms": 9.0,
    }  # fmt: skip
    return MachinePart.model_validate(values | other)


def test_the_default_profile_is_used_where_there_is_one(home):
    assert settings_of({}, None, off=False).calibration is None
    home.save(Profile(name="default", machine=machine()))
    home.save(Profile(name="couch"))
    assert settings_of({}, None, off=False).calibration == "default"
    assert settings_of({}, "couch", off=False).calibration == "couch"
    assert calibration_of(settings_of({}, None, off=True)) is None
    assert calibration_of(Settings()) is None, "demo, film and benchmarks know no wearer"
    with pytest.raises(SettingsError, match="no profile"):
        settings_of({}, "couhc", off=False)
    with pytest.raises(SettingsError, match="contradict"):
        settings_of({}, "couch", off=True)


def test_the_machines_part_gives_defaults_and_flags_and_files_win(home, tmp_path):
    home.save(Profile(name="default", machine=machine()))
    settings = settings_of({}, None, off=False)
    assert (settings.runtime, settings.precision, settings.tier) == ("onnxruntime", "f32", "tiny")
    (tmp_path / "stream.toml").write_text('runtime = "openvino"\n')
    mixed = settings_of({"precision": "bf16"}, str(tmp_path / "stream.toml"), off=False)
    assert (mixed.runtime, mixed.precision, mixed.tier) == ("openvino", "bf16", "tiny")
    assert settings_of({}, None, off=True).runtime == "auto"
    assert settings.mic_delay_ms is None
    home.save(Profile(name="late", delay=DelayPart(camera_ms=80, pipeline_ms=15)))
    assert settings_of({}, "late", off=False).mic_delay_ms == 95
    assert settings_of({"mic_delay_ms": 7}, "late", off=False).mic_delay_ms == 7
    home.save(Profile(name="default", machine=machine(machine="another one")))
    assert settings_of({}, None, off=False).runtime == "auto"
    home.path("default").write_text("{}")
    with pytest.raises(DataError, match="schema_version"):
        settings_of({}, None, off=False)


class Live:
    """A runtime that remembers its calibration."""

    name, precision = "openvino", "f32"

    def __init__(self, manifest):
        self.crop_size, self.swap_size = manifest.crop_size, manifest.output_size
        self.given = None

    def calibrate(self, gain, shift):
        self.given = gain.copy(), shift.copy()

    def swap(self, crop, points):
        raise NotImplementedError

    def close(self):
        pass


@pytest.fixture(scope="module")
def vera():
    return read_persona(session.persona_store().find("vera"), admit=shown_only)


def test_wearer_and_colours_are_put_on_and_said_in_one_line(home, vera):
    code = vera.manifest.code_size
    wearer = WearerCalibration(np.full(code, 1.1, np.float32), np.ones(code, np.float32), vera.manifest.encoder_sha256)
    lit = Light(name="evening", persona="vera", face=(0.1, 0.2, 0.3), gain=(1.0, 1.1, 1.2))
    home.save(Profile(name="me", wearer=WearerPart.of(wearer), lights=(lit,), delay=DelayPart(camera_ms=80)))
    live, said = Live(vera.manifest), []
    blender = put_on_profile(Settings(calibration="me"), vera, Swapper(vera, live), said.append)
    assert isinstance(blender, LightBlender)
    assert np.allclose(live.given[0], 1.1)
    assert said == ["calibration me: the wearer, colours in evening, sound 80 ms later in OBS"]


def test_a_profile_that_does_not_fit_is_left_out_aloud(home, vera):
    part = WearerPart(gain=(1.0,), shift=(0.0,))
    home.save(Profile(name="me", wearer=part))
    live, said = Live(vera.manifest), []
    assert type(put_on_profile(Settings(calibration="me"), vera, Swapper(vera, live), said.append)) is Blender
    assert live.given is None
    assert "not the wearer: the calibration is not of the encoder of vera" in said[0]
    home.path("me").write_text("damaged")
    put_on_profile(Settings(calibration="me"), vera, Swapper(vera, live), said.append)
    assert said[1].startswith("without the calibration: the profile")
    put_on_profile(Settings(), vera, Swapper(vera, live), said.append)
    assert len(said) == 2, "nothing to say without one"


def call(*arguments):
    result = CliRunner().invoke(calibrate_app, arguments)
    return result.exit_code, result.stdout


def test_profiles_are_listed_shown_and_edited(home, monkeypatch, tmp_path):
    home.save(Profile(name="default", delay=DelayPart(camera_ms=80, pipeline_ms=20)))
    home.path("broken").write_text("{}")
    code, out = call("list", "--json")
    rows = {row["profile"]: row for row in json.loads(out.splitlines()[-1])["profiles"]}
    assert code == 0
    assert rows["default"]["audio_offset_ms"] == 100
    assert "schema_version" in rows["broken"]["error"]
    assert call("edit", "default", "delay.camera_ms=55")[0] == 0
    assert json.loads(call("show", "--json")[1].splitlines()[-1])["delay"]["camera_ms"] == 55
    assert call("edit", "default", "delay.camera_ms=-1")[0] == 1
    assert home.load("default").delay.camera_ms == 55, "what was refused is not kept"
    script = tmp_path / "editor.py"
    script.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text().replace('55', '66'))"
    )
    import sys

    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    if sys.platform != "win32":
        assert call("edit")[0] == 0
        assert home.load("default").delay.camera_ms == 66


def test_headless_the_code_has_no_window_and_says_what_to_do(home, monkeypatch):
    monkeypatch.setattr("realtime.delay_rig.display_problem", lambda: "there is no display")
    code, out = call("delay", "--pipeline", "10", "--json")
    assert code == 1
    assert "--write" in json.loads(out.splitlines()[-1])["error"]["hint"]


def test_prompts_that_nobody_followed_leave_no_profile():
    _followed({"smile": 0.05, "open": 0.8})  # one of them may be hardly seen
    with pytest.raises(SettingsError, match="nothing was kept") as caught:
        _followed({"smile": -0.56, "open": 0.06})
    assert "follow the prompts" in caught.value.hint
