"""Defaults, then the profile, then flags; wrong keys are named."""

from __future__ import annotations

import pytest

from engines.errors import SettingsError
from realtime.config import Settings, resolve
from realtime.policy import FailurePolicy


def test_defaults_are_safe():
    settings = Settings()
    assert settings.policy is FailurePolicy.VEIL
    assert settings.label
    assert settings.sink == ("virtualcam",)


def test_flags_win_over_the_profile_over_the_defaults(tmp_path):
    profile = tmp_path / "p.toml"
    profile.write_text('persona = "kofi"\nsink = ["a.mp4", "null"]\nfps = 25\npolicy = "card"\n')
    settings = resolve({"fps": 50.0, "persona": None}, profile)
    assert (settings.persona, settings.sink, settings.fps) == ("kofi", ("a.mp4", "null"), 50.0)
    assert settings.policy is FailurePolicy.CARD


def test_an_unknown_key_names_the_nearest(tmp_path):
    profile = tmp_path / "p.toml"
    profile.write_text("fethaer = 3\n")
    with pytest.raises(SettingsError) as error:
        resolve({}, profile)
    assert "fethaer" in error.value.message
    assert "feather" in error.value.hint


@pytest.mark.parametrize(
    ("flags", "name"),
    [({"fps": 0}, "fps"), ({"policy": "show"}, "policy"), ({"sink": ()}, "sink"), ({"colour_strength": 2}, "colour")],
)
def test_values_that_make_no_sense_name_their_option(flags, name):
    with pytest.raises(SettingsError, match=name):
        resolve(flags)


def test_a_missing_or_damaged_profile_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match="no profile"):
        resolve({}, tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("fps = = 3")
    with pytest.raises(SettingsError, match="cannot be read"):
        resolve({}, bad)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().fps = 3


def test_a_cameras_knobs() -> None:
    assert not resolve({}).camera_controls(), "nothing is turned unless asked"
    asked = resolve({"power_line": "50", "exposure": "10", "focus": "auto", "steady_rate": True}).camera_controls()
    assert (asked.power_line, asked.exposure, asked.focus, asked.steady_rate) == ("50", 10.0, "auto", True)
    assert resolve({"focus": "12"}).camera_controls().focus == 12
    with pytest.raises(SettingsError, match="power-line"):
        resolve({"power_line": "55"})
