"""What a guest is made of: QEMU and the clients installed, Debian's kernel unpacked, v4l2loopback built for it."""

from __future__ import annotations

import lzma
import os
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("PERSONACAM_VM_CACHE", Path.home() / ".cache" / "personacam-vm"))
BOOT_MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio-rng")
MACHINE_PACKAGES = ("qemu-system-x86", "busybox-static", "cpio", "kmod", "dpkg-dev", "make")
CLIENT_PACKAGES = (
    "v4l-utils",
    "ffmpeg",
    "gstreamer1.0-tools",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "chromium-headless-shell",
    "obs-studio",
    "xvfb",
    "libgl1-mesa-dri",
    "dbus",
)
"""The real programs that read the camera in the guest."""


class MachineError(Exception):
    """The guest cannot be set up or gave no answer."""


@dataclass(frozen=True)
class Kernel:
    """Debian's kernel of one version, unpacked under ``folder``."""

    version: str
    folder: Path

    @property
    def image(self) -> Path:
        """The kernel as ELF, which QEMU enters directly: the guest need not unpack it under emulation."""
        return self.folder / "vmlinux"

    @property
    def initramfs(self) -> Path:
        """busybox, the modules that mount the root, and ``guest/init``."""
        return self.folder / "initramfs.gz"

    @property
    def modules(self) -> Path:
        """What the guest sees as /lib/modules/VERSION."""
        return self.folder / "lib" / "modules" / self.version


def missing() -> str | None:
    """Why no guest can be started here, with the repair; None when one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the guest is made for Linux on x86-64"
    if shutil.which("qemu-system-x86_64") is None:
        return "QEMU is missing: make test-vm installs it"
    if find_kernel() is None:
        return "Debian's kernel is not unpacked: make test-vm does it"
    return None


def find_kernel() -> Kernel | None:
    """The newest kernel that ``setup`` finished, if any."""
    folders = sorted(CACHE.glob("linux-*/ready"), key=lambda ready: ready.stat().st_mtime)
    return Kernel(folders[-1].parent.name.removeprefix("linux-"), folders[-1].parent) if folders else None


def setup(packages: Sequence[str] = (*MACHINE_PACKAGES, *CLIENT_PACKAGES)) -> Kernel:
    """Install what is missing, unpack the kernel, build v4l2loopback. Seconds when all is there.

    Raises MachineError where Debian's packages cannot be had.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    if shutil.which("apt-get") is None:
        raise MachineError("the set-up needs apt-get: it takes QEMU, the kernel and the clients from Debian")
    install(packages)
    version = _kernel_version()
    kernel = Kernel(version, CACHE / f"linux-{version}")
    if not (kernel.folder / "ready").exists():
        install([f"linux-headers-{version}"])
        shutil.rmtree(kernel.folder, ignore_errors=True)
        _unpack_package(f"linux-image-{version}", kernel.folder)
        kernel.image.write_bytes(unpack_kernel((kernel.folder / "boot" / f"vmlinuz-{version}").read_bytes()))
        _build_loopback(kernel)
        _call(["depmod", "-b", str(kernel.folder), version])
    _make_initramfs(kernel)
    (kernel.folder / "ready").touch()
    return kernel


def install(packages: Sequence[str]) -> None:
    """apt-get install those that are not there. Raises MachineError."""
    wanted = [name for name in packages if not _is_installed(name)]
    if not wanted:
        return
    if os.geteuid() != 0:
        raise MachineError("run as root once, or: sudo apt-get install " + " ".join(wanted))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _call(["apt-get", "update", "-qq"], environment)
    _call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted], environment)


def unpack_kernel(image: bytes) -> bytes:
    """The ELF inside a bzImage that was packed with xz; its place stands in the header (Linux' x86 boot protocol)."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return lzma.LZMADecompressor().decompress(image[start : start + length])


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${Status}", package]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.endswith("ok installed")


def _kernel_version() -> str:
    def ask() -> str | None:
        answer = subprocess.run(
            ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
        ).stdout
        found = re.search(r"Depends: linux-image-(\S+)", answer)
        return found[1] if found else None

    version = ask()
    if version is None:  # a new machine knows no packages yet
        _call(["apt-get", "update", "-qq"])
        version = ask()
    if version is None:
        raise MachineError("apt knows no package linux-image-amd64; this set-up is made for Debian 12")
    return version


def _unpack_package(package: str, folder: Path) -> None:
    """Unpack a Debian package without installing it."""
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        _call(["apt-get", "download", "-qq", package], cwd=place, user="root")
        (archive,) = Path(place).glob("*.deb")
        _call(["dpkg-deb", "-x", str(archive), str(folder)])


def _build_loopback(kernel: Kernel) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        _unpack_package("v4l2loopback-dkms", Path(place))
        (sources,) = Path(place).glob("usr/src/v4l2loopback-*")
        _call(["make", "-s", "-C", f"/usr/src/linux-headers-{kernel.version}", f"M={sources}", "modules"])
        (kernel.modules / "extra").mkdir(exist_ok=True)
        shutil.copy(sources / "v4l2loopback.ko", kernel.modules / "extra")


def _make_initramfs(kernel: Kernel) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        root = Path(place)
        for name in ("bin", "modules", "proc", "sys", "dev"):
            (root / name).mkdir()
        shutil.copy("/bin/busybox", root / "bin")
        shutil.copy(Path(__file__).parent / "guest" / "init", root / "init")
        (root / "init").chmod(0o755)
        order: dict[str, None] = {}
        for module in BOOT_MODULES:
            answer = _call(
                ["modprobe", "-d", str(kernel.folder), "-S", kernel.version, "--show-depends", module]
            ).splitlines()
            for line in answer:
                if line.startswith("insmod"):
                    file = Path(line.split()[1])
                    shutil.copy(file, root / "modules")
                    order[file.name] = None
        (root / "modules" / "order").write_text("".join(f"{name}\n" for name in order))
        pack = f"find . | cpio -o -H newc --quiet | gzip -1 > {shlex.quote(str(kernel.initramfs))}"
        _call(["sh", "-c", pack], cwd=place)


def _call(
    command: Sequence[str], environment: dict[str, str] | None = None, cwd: str | None = None, user: str = ""
) -> str:
    """Its output. Raises MachineError with the end of what it said."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if user:
        # apt drops to a user of its own for downloads, who may not write into our folder.
        command = [*command[:1], "-o", f"APT::Sandbox::User={user}", *command[1:]]
    done = subprocess.run(
        command,
        env={**(environment or os.environ), "PATH": path},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MachineError(f"{shlex.join(command)} failed:\n{done.stdout[-2000:]}")
    return done.stdout
