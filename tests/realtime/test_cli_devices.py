"""The verbs for cameras and virtual cameras: what they print, that nothing is done without --apply."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from realtime import cli_devices
from realtime.camera_list import CameraInfo
from realtime.cli import app
from realtime.loopback import LoopbackFacts
from realtime.v4l2_controls import Control
from realtime.v4l2_modes import Mode

runner = CliRunner()


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(cli_devices, "say", lambda text, _style="": lines.append(text))
    return lines


def test_cameras_with_their_modes_and_knobs(monkeypatch: pytest.MonkeyPatch, spoken: list[str]) -> None:
    monkeypatch.setattr(cli_devices, "camera_list_note", lambda: None)
    monkeypatch.setattr(
        cli_devices, "list_cameras", lambda: [CameraInfo(4, "/dev/video4", "C920", "usb-1", "uvcvideo")]
    )
    modes = (Mode("MJPG", (1280, 720), (30.0, 15.0)), Mode("MJPG", (640, 480), ()), Mode("YUYV", (640, 480), (30.0,)))
    monkeypatch.setattr(cli_devices, "list_modes", lambda _path: modes)
    power = Control(1, "Power Line", "menu", 0, 2, 1, 2, 2, ((0, "Disabled"), (2, "60 Hz")))
    monkeypatch.setattr(cli_devices, "list_controls", lambda _path: (power,))
    monkeypatch.setattr(cli_devices.v4l2, "holders", lambda _path: ("zoom (pid 3)",))
    result = runner.invoke(app, ["cameras", "--json"])
    assert result.exit_code == 0
    assert spoken == [
        "4: C920 (/dev/video4, usb-1)", "   open in zoom (pid 3)", "   MJPG: 1280x720@30, 640x480",
        "   YUYV: 640x480@30", "   Power Line: Disabled, *60 Hz",
    ]  # fmt: skip
    (camera,) = json.loads(result.stdout.splitlines()[-1])["cameras"]
    assert camera["bus"] == "usb-1"
    assert camera["modes"][0] == {"fourcc": "MJPG", "size": [1280, 720], "rates": [30.0, 15.0]}
    assert camera["used_by"] == ["zoom (pid 3)"]


def test_no_camera_and_no_list(monkeypatch: pytest.MonkeyPatch, spoken: list[str]) -> None:
    monkeypatch.setattr(cli_devices, "list_cameras", list)
    monkeypatch.setattr(cli_devices, "camera_list_note", lambda: "Linux only")
    assert json.loads(runner.invoke(app, ["cameras", "--json"]).stdout) == {"cameras": [], "note": "Linux only"}
    assert spoken == ["Linux only"]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [("boolean", 1, "on"), ("boolean", 0, "off"), ("integer", 5, "5 of 0 to 9"), ("integer", None, "0 to 9")],
)
def test_knobs_are_described(kind: str, value: int | None, text: str) -> None:
    assert cli_devices.describe(Control(1, "Gain", kind, 0, 9, 1, 0, value)) == text  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
def test_install_and_remove_print_unless_told(monkeypatch: pytest.MonkeyPatch, spoken: list[str]) -> None:
    facts = LoopbackFacts("6.1.0", built=True)
    monkeypatch.setattr(cli_devices, "gather", lambda: facts)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(cli_devices, "carry_out", lambda plan, _facts, prefix: ran.extend(s.command for s in plan))
    monkeypatch.setattr(cli_devices, "root_prefix", lambda: ("sudo",))
    for verb in ("install", "remove"):
        assert runner.invoke(app, ["virtualcam", verb]).exit_code == 0
    assert ran == []
    assert any(line.startswith("  printf '%s\\n' 'options v4l2loopback") and "| sudo sh -c" in line for line in spoken)
    assert spoken[-1] == "nothing was done; --apply runs these commands"
    result = runner.invoke(app, ["virtualcam", "install", "--apply", "--json"])
    assert ran[-1] == ("modprobe", "v4l2loopback")
    assert any("need root; sudo may ask for your password" in line for line in spoken)
    assert json.loads(result.stdout)["applied"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
def test_what_stops_install_is_said_with_its_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_devices, "gather", lambda: LoopbackFacts("6.1.0", distribution="debian"))
    result = runner.invoke(app, ["virtualcam", "install", "--json"])
    assert result.exit_code == 1
    assert "apt install v4l2loopback-dkms" in json.loads(result.stdout)["error"]["hint"]


def test_elsewhere_it_is_obs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_devices.sys, "platform", "win32")
    result = runner.invoke(app, ["virtualcam", "install", "--json"])
    assert result.exit_code == 1
    assert "OBS" in json.loads(result.stdout)["error"]["message"]
