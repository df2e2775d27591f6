"""v4l2loopback, the kernel module behind virtual cameras on Linux: what its state is on this computer.

Facts are gathered here and judged elsewhere (``doctor_virtualcam.py``, ``loopback_setup.py``), so that every state of a
computer can be tried as a table.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from realtime import v4l2

DRIVER = "v4l2 loopback"
LABEL = "personacam"
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MOK_KEYS = ("/var/lib/shim-signed/mok/MOK.der", "/var/lib/dkms/mok.pub")
"""Where Ubuntu's and everybody else's DKMS keep the key with which they sign modules."""


@dataclass(frozen=True, slots=True)
class LoopbackDevice:
    """One virtual camera of the module."""

    path: str
    name: str
    writable: bool = True
    """This user may open it."""
    captures: bool | None = None
    """Pictures can be read from it at this moment; None: it cannot be asked."""
    outputs: bool | None = None
    """Pictures can be written to it at this moment."""
    holders: tuple[str, ...] = ()
    """Programs that have it open."""

    @property
    def exclusive(self) -> bool | None:
        """Whether it was made with exclusive_caps=1: it then is an output or a camera, never both at once."""
        if self.captures is None or self.outputs is None:
            return None
        return not (self.captures and self.outputs)

    @property
    def busy(self) -> bool:
        """Another program shows pictures in it."""
        return self.outputs is False and bool(self.holders)

    @property
    def stuck(self) -> bool:
        """0.12.7 after its first use: nobody writes, and nobody can. ``v4l2.reset_output`` frees it."""
        return self.outputs is False and not self.holders


@dataclass(frozen=True, slots=True)
class LoopbackFacts:
    """What there is of the module on this computer."""

    kernel: str
    """``uname -r``."""
    modular: bool = True
    """The kernel can load modules at all."""
    loaded: bool = False
    version: str = ""
    """Of the loaded module, "0.15.0"; empty where the module does not say."""
    devices: tuple[LoopbackDevice, ...] = ()
    built: bool = False
    """There is a module file for this kernel."""
    signed: bool | None = None
    """The module file carries a signature; None: not known."""
    secure_boot: bool | None = None
    source: bool = False
    """DKMS has its source, to build it for every kernel."""
    headers: bool = False
    """This kernel's headers are there, which building needs."""
    distribution: str = ""
    """debian, arch, fedora, suse, or empty."""
    mok_key: str = ""
    """The file of the key with which DKMS signs modules, if there is one."""
    options: tuple[tuple[str, str], ...] = ()
    """(file, line) of each ``options v4l2loopback`` in the system's configuration."""
    at_boot: bool = False
    """It is loaded when the computer starts."""
    control: bool = False
    """The module has /dev/v4l2loopback, through which devices are added and removed: since 0.13."""
    control_tool: bool = False
    """``v4l2loopback-ctl`` is installed, which uses it."""

    @property
    def dynamic(self) -> bool:
        """Whether devices can be added to the loaded module."""
        return self.control and self.control_tool

    @property
    def free(self) -> tuple[LoopbackDevice, ...]:
        """Those that a program could start now."""
        return tuple(device for device in self.devices if device.writable and not device.busy)


def gather(root: Path = Path("/"), kernel: str | None = None) -> LoopbackFacts:
    """Look at this computer. ``root`` is another folder in tests. Needs no rights, and changes nothing."""
    kernel = platform.release() if kernel is None else kernel
    module = root / "sys/module/v4l2loopback"
    file = _module_file(root, kernel)
    keys = [key for key in MOK_KEYS if _exists(root / key.lstrip("/"))]
    return LoopbackFacts(
        kernel=kernel,
        modular=(root / "proc/modules").exists(),
        loaded=module.is_dir(),
        version=_text(module / "version"),
        devices=_devices(root / "sys/class/video4linux", loaded=module.is_dir()),
        built=file is not None,
        signed=None if file is None else _signed(file),
        secure_boot=_secure_boot(root),
        source=any((root / "usr/src").glob("v4l2loopback-*")) or any((root / "var/lib/dkms").glob("v4l2loopback")),
        headers=(root / "lib/modules" / kernel / "build").exists(),
        distribution=_distribution(_text(root / "etc/os-release")),
        mok_key=keys[0] if keys else "",
        options=_options(root),
        at_boot=any("v4l2loopback" in _settings(_text(path)) for path in _configuration(root, "modules-load.d"))
        or "v4l2loopback" in _settings(_text(root / "etc/modules")),
        control=(root / "dev/v4l2loopback").exists(),
        control_tool=shutil.which("v4l2loopback-ctl") is not None,
    )


def _devices(sysfs: Path, *, loaded: bool) -> tuple[LoopbackDevice, ...]:
    found = []
    for _, path, name in v4l2.nodes(sysfs):
        writable = os.access(path, os.R_OK | os.W_OK)
        capability = v4l2.query(path)
        if capability is None:
            # What may not be asked may still be ours: the module puts its devices under /sys/devices/virtual.
            virtual = "/virtual/" in str((sysfs / Path(path).name).resolve())
            if loaded and not writable and (virtual or name == LABEL):
                found.append(LoopbackDevice(path, name, writable=False))
        elif capability.driver == DRIVER:
            holders = v4l2.holders(path)
            found.append(LoopbackDevice(path, name, writable, capability.captures, capability.outputs, holders))
    return tuple(found)


def _module_file(root: Path, kernel: str) -> Path | None:
    """Any of the folders in which distributions and DKMS put it; packed or not."""
    folder = root / "lib/modules" / kernel
    for place in ("updates", "extra", "weak-updates", "kernel/drivers/media", "kernel/extra", "misc", "extramodules"):
        for file in sorted((folder / place).rglob("v4l2loopback.ko*")):
            return file
    return None


def _signed(file: Path) -> bool | None:
    """Whether the kernel's signature marker ends the file (Documentation/admin-guide/module-signing.rst). A packed
    file is asked through modinfo, which unpacks it.
    """
    try:
        if file.suffix == ".ko":
            with file.open("rb") as stream:
                stream.seek(-28, os.SEEK_END)
                return stream.read() == b"~Module signature appended~\n"
        answer = subprocess.run(
            ["modinfo", "-F", "signer", str(file)], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(answer.stdout.strip()) if answer.returncode == 0 else None


def _secure_boot(root: Path) -> bool | None:
    """The firmware's variable: four bytes of attributes, then one byte. None without UEFI."""
    try:
        value = (root / "sys/firmware/efi/efivars" / _SECURE_BOOT).read_bytes()
    except OSError:
        return None
    return len(value) > 4 and value[4] == 1


def _distribution(os_release: str) -> str:
    """Family of the distribution, from os-release(5)."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    names = " ".join(fields.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")).split()
    families = {"debian": "debian", "ubuntu": "debian", "arch": "arch", "fedora": "fedora", "rhel": "fedora"}
    for name in names:
        if name in families:
            return families[name]
        if "suse" in name:
            return "suse"
    return ""


def _configuration(root: Path, folder: str) -> list[Path]:
    """Configuration files, those of /etc in place of equal names elsewhere, as modprobe.d(5) reads them."""
    found: dict[str, Path] = {}
    for place in ("etc", "run", "usr/local/lib", "usr/lib", "lib"):
        for path in (root / place / folder).glob("*.conf"):
            found.setdefault(path.name, path)
    return [found[name] for name in sorted(found)]


def _options(root: Path) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"/{path.relative_to(root)}", line)
        for path in _configuration(root, "modprobe.d")
        for line in _settings(_text(path))
        if re.match(r"options\s+v4l2loopback\s", line)
    )


def _settings(text: str) -> list[str]:
    """Lines that say something."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("#", ";"))]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that only root may look into
        return False
