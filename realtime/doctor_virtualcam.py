"""Why a virtual camera cannot be started or is not listed, and what repairs it, for the three systems.

Each system has a value of facts, one function that gathers it and one that judges it; the judges ask nothing.
"""

from __future__ import annotations

import platform
import plistlib
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from realtime.finding import Finding
from realtime.loopback import LABEL, LoopbackDevice, LoopbackFacts
from realtime.loopback_setup import INSTALL, install_module, sign_module

TOPIC = "virtual camera"
USE_GROUP = "sudo usermod -a -G video $USER, then log in again"
_OBS_CAMERA = "{A3FCE0F5-3493-419F-958A-ABA1250EC20B}"  # class id under which OBS registers its virtual camera
_UNITY_CAMERAS = {64: "{5C2CD55C-92AD-4999-8666-912BD3E70010}", 32: "{5C2CD55C-92AD-4999-8666-912BD3E70020}"}
_OBS_SETUP = r"data\obs-plugins\win-dshow\virtualcam-install.bat"
_OBS_EXTENSION = "com.obsproject.obs-studio.mac-camera-extension"
_START_ONCE = "start OBS, press Start Virtual Camera, then Stop Virtual Camera"


# --- Linux ------------------------------------------------------------------------------------------------------------


def judge_linux(facts: LoopbackFacts) -> list[Finding]:
    """The module, then its devices, then whether they are there after a restart."""
    if not facts.loaded:
        return [_not_loaded(facts)]
    if not facts.devices:
        fix = (
            f"sudo v4l2loopback-ctl add -n {LABEL} -x 1"
            if facts.dynamic
            else f"sudo modprobe -r v4l2loopback; {INSTALL}"
        )
        return [Finding(TOPIC, "fail", "v4l2loopback is loaded but has no device", fix)]
    found = [_device(device, facts) for device in facts.devices]
    if not facts.free:
        found.append(_none_free(facts))
    elif not facts.at_boot:
        text = "v4l2loopback is loaded, and will not be after a restart"
        found.append(Finding(TOPIC, "warn", text, INSTALL))
    return found


def _not_loaded(facts: LoopbackFacts) -> Finding:
    if not facts.modular:
        fix = "run it on the computer itself; here use --sink FILE.mp4 or --sink preview"
        return Finding(TOPIC, "fail", f"kernel {facts.kernel} loads no modules (a container or small machine?)", fix)
    if not facts.built:
        where = f"for kernel {facts.kernel}" if facts.source else "on this computer"
        return Finding(TOPIC, "fail", f"there is no module v4l2loopback {where}", install_module(facts))
    if facts.secure_boot and facts.signed is False:
        text = "Secure Boot is on and the module v4l2loopback is not signed: the kernel refuses it"
        return Finding(TOPIC, "fail", text, sign_module(facts))
    fix = INSTALL
    if facts.secure_boot:
        fix += f"; if its key is rejected (Secure Boot is on): {sign_module(facts)}"
    return Finding(TOPIC, "fail", "the kernel module v4l2loopback is not loaded", fix)


def _device(device: LoopbackDevice, facts: LoopbackFacts) -> Finding:
    label = f"{device.path} ({device.name})"
    version = f", v4l2loopback {facts.version}" if facts.version else ""
    if not device.writable:
        return Finding(TOPIC, "fail", f"{label} may not be opened by this user", USE_GROUP)
    if device.busy:
        text = f"{label} is used by {', '.join(device.holders)}"
        return Finding(TOPIC, "warn", text, "end that program's camera output, or leave it and use another device")
    if device.exclusive is False:
        text = f"{label} was made with exclusive_caps=0: Chromium, Zoom and Teams will not list it"
        return Finding(TOPIC, "warn", text, f"sudo modprobe -r v4l2loopback; {INSTALL}")
    if device.stuck:
        text = f"{label} was not given back by its last program{version}; personacam frees it when it starts"
        return Finding(TOPIC, "ok", text)
    watching = f", open in {', '.join(device.holders)}" if device.holders else ""
    return Finding(TOPIC, "ok", f"{label}{version}{watching}")


def _none_free(facts: LoopbackFacts) -> Finding:
    if not any(device.writable for device in facts.devices):
        return Finding(TOPIC, "fail", "no virtual camera may be opened by this user", USE_GROUP)
    fix = f"sudo v4l2loopback-ctl add -n {LABEL} -x 1" if facts.dynamic else "end one of the programs that hold them"
    return Finding(TOPIC, "fail", "every virtual camera is in use", fix)


# --- Windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """One DirectShow camera as one half of the registry has it."""

    library: str
    """Path of the DLL."""
    there: bool = True
    """The file exists."""


@dataclass(frozen=True, slots=True)
class WindowsFacts:
    """What is registered. Programs of 64 and of 32 bits see different halves of the registry."""

    python_bits: int = 64
    obs_folder: str = ""
    """Where OBS Studio is installed; empty: nowhere."""
    obs: tuple[Registration | None, Registration | None] = (None, None)
    """(64 bit, 32 bit)."""
    unity: tuple[Registration | None, Registration | None] = (None, None)


def judge_windows(facts: WindowsFacts) -> list[Finding]:
    """OBS's camera or Unity Capture's: at least one must be registered for Python's own number of bits."""
    found = []
    usable = False
    for name, pair, again in (
        ("OBS Virtual Camera", facts.obs, _obs_setup(facts.obs_folder)),
        ("Unity Capture", facts.unity, "run Unity Capture's Install.bat as administrator"),
    ):
        own, other = pair if facts.python_bits == 64 else pair[::-1]
        bits = (64, 32) if facts.python_bits == 64 else (32, 64)
        if own is not None and not own.there:
            found.append(Finding(TOPIC, "fail", f"{name} is registered, but {own.library} is gone", again))
        elif own is not None:
            usable = True
            found.append(Finding(TOPIC, "ok", name))
            if other is None:
                text = f"{name} is not registered for {bits[1]}-bit programs: they will not list it"
                found.append(Finding(TOPIC, "warn", text, again))
        elif other is not None:
            text = f"{name} is registered for {bits[1]}-bit programs only, and this Python has {bits[0]} bits"
            found.append(Finding(TOPIC, "fail", text, again))
    if usable:  # what is wrong with the other one does not keep personacam from running
        return [finding for finding in found if finding.state != "fail"]
    if found:
        return found
    if facts.obs_folder:
        return [
            Finding(
                TOPIC,
                "fail",
                "OBS is installed, but its virtual camera is not registered",
                _obs_setup(facts.obs_folder),
            )
        ]
    fix = f"winget install OBSProject.OBSStudio (28 or newer); {_START_ONCE}"
    return [Finding(TOPIC, "fail", "neither OBS nor Unity Capture is installed", fix)]


def _obs_setup(folder: str) -> str:
    if not folder:
        return f"install OBS Studio 28 or newer again; {_START_ONCE}"
    return f'run as administrator: "{folder}\\{_OBS_SETUP}"; then {_START_ONCE}'


def gather_windows() -> WindowsFacts:
    """Look into the registry."""
    return WindowsFacts(
        python_bits=struct.calcsize("P") * 8,
        obs_folder=_obs_folder(),
        obs=(_registration(_OBS_CAMERA, 64), _registration(_OBS_CAMERA, 32)),
        unity=(_registration(_UNITY_CAMERAS[64], 64), _registration(_UNITY_CAMERAS[32], 32)),
    )


def _obs_folder() -> str:
    """OBS's installer leaves its folder as the default value of this key."""
    if sys.platform == "win32":
        import winreg

        for view in (winreg.KEY_WOW64_64KEY, winreg.KEY_WOW64_32KEY):
            try:
                with winreg.OpenKey(
                    winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\OBS Studio", 0, winreg.KEY_READ | view
                ) as key:
                    folder = str(winreg.QueryValueEx(key, "")[0])
            except OSError:
                continue
            if Path(folder).is_dir():
                return folder
    return ""


def _registration(class_id: str, bits: int) -> Registration | None:
    if sys.platform == "win32":
        import winreg

        view = winreg.KEY_WOW64_64KEY if bits == 64 else winreg.KEY_WOW64_32KEY
        place = rf"CLSID\{class_id}\InprocServer32"
        try:
            with winreg.OpenKey(winreg.HKEY_CLASSES_ROOT, place, 0, winreg.KEY_READ | view) as key:
                library = str(winreg.QueryValueEx(key, "")[0])
        except OSError:
            return None
        return Registration(library, Path(library).is_file())
    return None


# --- macOS ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extension:
    """One line of ``systemextensionsctl list``."""

    bundle: str
    version: str
    """As it stands in brackets, "30.0.0/6132306234"."""
    state: str
    """"activated enabled", "activated waiting for user", "terminated waiting to uninstall on reboot"."""


@dataclass(frozen=True, slots=True)
class MacFacts:
    """OBS and its camera extension."""

    system: tuple[int, ...]
    """macOS's version."""
    obs: str | None = None
    """Version of OBS in /Applications; None: not there."""
    obs_elsewhere: bool = False
    """OBS lies in the user's own folders, from which macOS activates no extension."""
    extensions: tuple[Extension, ...] | None = ()
    """OBS's; None: they could not be listed."""


_EXTENSION_LINE = re.compile(r"\s(?P<bundle>[\w.-]+) \((?P<version>[^)]+)\)(?:\s+[^\[]*)?\s*\[(?P<state>[^\]]+)\]\s*$")


def parse_extensions(text: str) -> tuple[Extension, ...]:
    """OBS's lines of ``systemextensionsctl list``.

    The columns are tabs: enabled (* or nothing), active, team, bundle and version, name (may be missing), [state]. As
    users posted them in obsproject/obs-studio, issues 9912 and 10381 and pull request 9638 (macOS 14 to 26).
    """
    lines = (_EXTENSION_LINE.search(line) for line in text.splitlines())
    found = (Extension(line["bundle"], line["version"], line["state"].strip()) for line in lines if line)
    return tuple(extension for extension in found if extension.bundle == _OBS_EXTENSION)


def judge_mac(facts: MacFacts) -> list[Finding]:
    """OBS 30's camera extension, which macOS must have been told to allow."""
    if facts.obs is None:
        if facts.obs_elsewhere:
            fix = f"move OBS into /Applications; {_START_ONCE}"
            return [Finding(TOPIC, "fail", "OBS is not in /Applications, where extensions must come from", fix)]
        fix = f"brew install --cask obs (30 or newer), or from obsproject.com; {_START_ONCE}"
        return [Finding(TOPIC, "fail", "OBS is not installed", fix)]
    if facts.system < (13,):
        text = f"macOS {'.'.join(map(str, facts.system))} has no camera extensions"
        return [Finding(TOPIC, "fail", text, "update to macOS 13 or newer")]
    if int(re.match(r"\d*", facts.obs)[0] or 0) < 30:  # type: ignore[index]
        text = f"OBS {facts.obs} has no camera extension"
        return [Finding(TOPIC, "fail", text, f"update OBS to 30 or newer; {_START_ONCE}")]
    if facts.extensions is None:
        text = f"OBS {facts.obs} is installed; whether its camera is allowed could not be asked"
        return [Finding(TOPIC, "warn", text, _START_ONCE)]
    return [_extension(facts)]


def _extension(facts: MacFacts) -> Finding:
    states = {extension.state for extension in facts.extensions or ()}
    if "activated enabled" in states:
        if any("uninstall" in state for state in states):
            text = "OBS's camera is allowed; an older one waits for a restart"
            return Finding(TOPIC, "warn", text, "restart the Mac if the camera is not listed")
        return Finding(TOPIC, "ok", f"OBS {facts.obs}, its camera extension is allowed")
    if any("waiting for user" in state for state in states):
        place = (
            "General > Login Items & Extensions > Camera Extensions" if facts.system >= (15,) else "Privacy & Security"
        )
        fix = f"System Settings > {place}: allow OBS; then start OBS again"
        return Finding(TOPIC, "fail", "OBS's camera extension waits to be allowed", fix)
    if any("reboot" in state for state in states):
        return Finding(TOPIC, "fail", "OBS's camera extension waits for a restart", f"restart the Mac; {_START_ONCE}")
    text = f"OBS {facts.obs} is installed, and its camera extension is not"
    return Finding(TOPIC, "fail", text, f"{_START_ONCE}, and allow what macOS asks")


def gather_mac() -> MacFacts:
    """Look into /Applications and ask macOS."""
    plist = Path("/Applications/OBS.app/Contents/Info.plist")
    version = None
    if plist.is_file():
        try:
            version = str(plistlib.loads(plist.read_bytes()).get("CFBundleShortVersionString", "0"))
        except (OSError, ValueError, plistlib.InvalidFileException):
            version = "0"
    home = Path.home()
    elsewhere = any((home / place / "OBS.app").is_dir() for place in ("Applications", "Downloads", "Desktop"))
    extensions: tuple[Extension, ...] | None
    try:
        answer = subprocess.run(
            ["systemextensionsctl", "list"], capture_output=True, text=True, timeout=15, check=False
        )
        extensions = parse_extensions(answer.stdout) if answer.returncode == 0 else None
    except (OSError, subprocess.SubprocessError):
        extensions = None
    system = tuple(int(part) for part in platform.mac_ver()[0].split(".") if part.isdigit())
    return MacFacts(system, version, elsewhere, extensions)
