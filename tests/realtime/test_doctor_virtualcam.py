"""Every state of a virtual camera on the three systems, from recorded facts: what is said, and the repair."""

from __future__ import annotations

import sys

import pytest

from realtime.doctor_virtualcam import (
    Extension,
    MacFacts,
    Registration,
    WindowsFacts,
    gather_mac,
    gather_windows,
    judge_linux,
    judge_mac,
    judge_windows,
    parse_extensions,
)
from realtime.finding import Finding
from realtime.loopback import LoopbackDevice, LoopbackFacts

FREE = LoopbackDevice("/dev/video9", "personacam", captures=False, outputs=True)
BUSY = LoopbackDevice("/dev/video8", "OBS", captures=True, outputs=False, holders=("obs (pid 7)",))
STUCK = LoopbackDevice("/dev/video9", "personacam", captures=True, outputs=False)
BOTH = LoopbackDevice("/dev/video9", "Dummy", captures=True, outputs=True)
LOCKED = LoopbackDevice("/dev/video9", "personacam", writable=False)


def linux(**facts: object) -> LoopbackFacts:
    return LoopbackFacts("6.1.0", **{"distribution": "debian", **facts})  # type: ignore[arg-type]


def loaded(*devices: LoopbackDevice, **facts: object) -> LoopbackFacts:
    return linux(**{"loaded": True, "built": True, "at_boot": True, "version": "0.12.7", "devices": devices, **facts})


def one(found: list[Finding], state: str, text: str, repair: str) -> None:
    assert any(f.state == state and text in f.text and repair in (f.repair or "") for f in found), found
    assert all(f.repair for f in found if f.state != "ok")


@pytest.mark.parametrize(
    ("facts", "state", "text", "repair"),
    [
        (linux(modular=False), "fail", "loads no modules", "--sink FILE.mp4"),
        (linux(), "fail", "no module", "sudo apt install v4l2loopback-dkms linux-headers-6.1.0"),
        (linux(distribution="arch"), "fail", "no module", "pacman -S v4l2loopback-dkms"),
        (linux(distribution=""), "fail", "no module", "your distribution's package"),
        (linux(source=True), "fail", "for kernel 6.1.0", "sudo apt install linux-headers-6.1.0"),
        (linux(source=True, distribution="arch"), "fail", "for kernel", "headers of kernel 6.1.0"),
        (linux(source=True, headers=True), "fail", "for kernel 6.1.0", "sudo dkms autoinstall"),
        (linux(built=True), "fail", "not loaded", "personacam virtualcam install --apply"),
        (linux(built=True, secure_boot=True, signed=False), "fail", "not signed", "switch Secure Boot off"),
        (linux(built=True, secure_boot=True, signed=False, source=True), "fail", "not signed", "dkms remove"),
        (
            linux(built=True, secure_boot=True, signed=True, mok_key="/var/lib/dkms/mok.pub"),
            "fail", "not loaded", "mokutil --import /var/lib/dkms/mok.pub",
        ),
        (loaded(), "fail", "no device", "modprobe -r"),
        (loaded(control=True, control_tool=True), "fail", "no device", "v4l2loopback-ctl add -n personacam -x 1"),
        (loaded(LOCKED), "fail", "/dev/video9 (personacam) may not be opened", "usermod -a -G video"),
        (loaded(LOCKED), "fail", "no virtual camera may be opened", "usermod"),
        (loaded(BUSY), "warn", "/dev/video8 (OBS) is used by obs (pid 7)", "end that program"),
        (loaded(BUSY), "fail", "every virtual camera is in use", "end one of the programs"),
        (loaded(BUSY, control=True, control_tool=True), "fail", "in use", "v4l2loopback-ctl add"),
        (loaded(BOTH), "warn", "exclusive_caps=0", "modprobe -r"),
        (loaded(FREE, at_boot=False), "warn", "not be after a restart", "personacam virtualcam install --apply"),
        (loaded(FREE), "ok", "/dev/video9 (personacam), v4l2loopback 0.12.7", ""),
        (loaded(STUCK), "ok", "personacam frees it", ""),
        (loaded(LoopbackDevice("/dev/video9", "a", captures=False, outputs=True, holders=("zoom (pid 3)",))),
         "ok", "open in zoom", ""),
    ],
)  # fmt: skip
def test_linux(facts: LoopbackFacts, state: str, text: str, repair: str) -> None:
    one(judge_linux(facts), state, text, repair)


def test_a_free_device_beside_a_busy_one_is_enough() -> None:
    assert [finding.state for finding in judge_linux(loaded(BUSY, FREE))] == ["warn", "ok"]
    assert [finding.state for finding in judge_linux(loaded(FREE))] == ["ok"]


HERE, GONE = Registration(r"C:\obs\64.dll"), Registration(r"C:\old\64.dll", there=False)
OBS = r"C:\Program Files\obs-studio"


@pytest.mark.parametrize(
    ("facts", "state", "text", "repair"),
    [
        (WindowsFacts(), "fail", "neither OBS nor Unity Capture", "winget install OBSProject.OBSStudio"),
        (WindowsFacts(obs_folder=OBS), "fail", "not registered", r"win-dshow\virtualcam-install.bat"),
        (WindowsFacts(obs_folder=OBS, obs=(GONE, GONE)), "fail", r"C:\old\64.dll is gone", "virtualcam-install.bat"),
        (WindowsFacts(obs=(HERE, None)), "warn", "32-bit programs", "install OBS"),
        (WindowsFacts(obs=(None, HERE)), "fail", "for 32-bit programs only, and this Python has 64", "OBS"),
        (WindowsFacts(python_bits=32, obs=(HERE, None)), "fail", "for 64-bit programs only", "OBS"),
        (WindowsFacts(unity=(None, HERE)), "fail", "Unity Capture is registered for 32-bit", "Install.bat"),
        (WindowsFacts(unity=(HERE, HERE)), "ok", "Unity Capture", ""),
        (WindowsFacts(obs=(HERE, HERE)), "ok", "OBS Virtual Camera", ""),
    ],
)
def test_windows(facts: WindowsFacts, state: str, text: str, repair: str) -> None:
    one(judge_windows(facts), state, text, repair)


def test_one_that_works_is_enough_on_windows() -> None:
    found = judge_windows(WindowsFacts(obs=(GONE, GONE), unity=(HERE, HERE)))
    assert [(finding.state, finding.text) for finding in found] == [("ok", "Unity Capture")]


# As posted by users: obsproject/obs-studio issues 9912, 10381 and pull request 9638.
ENABLED = """2 extension(s)
--- com.apple.system_extension.cmio
enabled\tactive\tteamID\tbundleID (version)\tname\t[state]
2023-09-29 22:19:25.924 systemextensionsctl[53794:3282207] Cannot getLocalizedStringForKey: Completely failed to resolve
*\t*\t2MMRE5MTB8\tcom.obsproject.obs-studio.mac-camera-extension (30.0.0/6132306234)\t[activated enabled]
--- com.apple.system_extension.network_extension
*\t*\tMLZF7K7B5R\tat.obdev.littlesnitch.networkextension (5.7.1/6292)\tLittle Snitch\t[activated enabled]
"""
WAITING = """--- com.apple.system_extension.cmio (Go to 'System Settings > General > Login Items & Extensions')
enabled active teamID bundleID (version) name [state]
        * 2MMRE5MTB8 com.obsproject.obs-studio.mac-camera-extension (32.1.1/23916622335) \
OBS Virtual Camera [activated waiting for user]
"""
REPLACED = """\t\t2MMRE5MTB8\tcom.obsproject.obs-studio.mac-camera-extension (30.0.0/1)\tOBS Virtual Camera\t\
[terminated waiting to uninstall on reboot]
"""


def test_what_macos_lists() -> None:
    bundle = "com.obsproject.obs-studio.mac-camera-extension"
    assert parse_extensions(ENABLED) == (Extension(bundle, "30.0.0/6132306234", "activated enabled"),)
    assert parse_extensions(WAITING) == (Extension(bundle, "32.1.1/23916622335", "activated waiting for user"),)
    assert parse_extensions(REPLACED)[0].state == "terminated waiting to uninstall on reboot"
    assert parse_extensions("0 extension(s)\n") == ()


def mac(obs: str | None, listed: str | None = "", system: tuple[int, ...] = (15, 1), **more: bool) -> MacFacts:
    return MacFacts(system, obs, extensions=None if listed is None else parse_extensions(listed), **more)


@pytest.mark.parametrize(
    ("facts", "state", "text", "repair"),
    [
        (mac(None), "fail", "not installed", "brew install --cask obs"),
        (mac(None, obs_elsewhere=True), "fail", "not in /Applications", "move OBS"),
        (mac("30.0.2", system=(12, 7)), "fail", "macOS 12.7", "macOS 13"),
        (mac("29.1.3"), "fail", "OBS 29.1.3", "update OBS to 30"),
        (mac("garbage"), "fail", "OBS garbage", "update OBS"),
        (mac("31.0", None), "warn", "could not be asked", "Start Virtual Camera"),
        (mac("31.0"), "fail", "its camera extension is not", "Start Virtual Camera"),
        (mac("32.1.1", WAITING), "fail", "waits to be allowed", "Login Items & Extensions > Camera Extensions"),
        (mac("32.1.1", WAITING, (14, 5)), "fail", "waits to be allowed", "Privacy & Security"),
        (mac("31.0", REPLACED), "fail", "waits for a restart", "restart the Mac"),
        (mac("31.0", ENABLED + REPLACED), "warn", "an older one", "restart"),
        (mac("31.0", ENABLED), "ok", "is allowed", ""),
    ],
)
def test_macos(facts: MacFacts, state: str, text: str, repair: str) -> None:
    one(judge_mac(facts), state, text, repair)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the real answers differ")
def test_gathering_elsewhere_finds_nothing_and_does_not_fail() -> None:
    assert gather_windows().obs == (None, None)
    assert gather_mac().obs is None
