"""A throw-away QEMU guest with Debian's stock kernel, whose root is this computer's, read-only, under memory.

Whatever apt and pip installed here is there too, at the same paths, and nothing that the guest does is left here. The
kernel is the one of Debian's package, unpacked and never installed; v4l2loopback is built from Debian's sources for it.

    python -m tests.vm.machine setup
    python -m tests.vm.machine run [--limit SECONDS] -- COMMAND ...
"""

from __future__ import annotations

import argparse
import contextlib
import lzma
import os
import platform
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("PERSONACAM_VM_CACHE", Path.home() / ".cache" / "personacam-vm"))
BOOT_MODULES = ("virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio-rng")
BOOT_OPTIONS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "mitigations=off",
    "nokaslr",
    "audit=0",
    "apparmor=0",
    "nowatchdog",
    # The guest would gauge the processor's own clock while it waits for a core, and then live too fast.
    "tsc=unstable",
    "clocksource=hpet",
)
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
_KVM_PROBE_S = 25.0


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


@dataclass(frozen=True)
class Outcome:
    """What a command in a guest did."""

    status: int
    """Its exit status; 124 when the guest was ended at its limit, 125 when it ended without one."""
    output: str
    kernel_log: str
    boot_s: float
    """Guest seconds until the command began."""
    wall_s: float
    starved: float
    """Share of the time for which QEMU's threads were ready and got no core."""
    files: dict[str, bytes]
    """What it left in /run/vm, by name."""


# ------------------------------------------------------------------------------------------------------------- set-up


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


# ------------------------------------------------------------------------------------------------------------- running


def accelerator() -> str:
    """``kvm`` where a guest really boots with it, else ``tcg`` (emulation). The first answer is kept in the cache.

    /dev/kvm alone says little: under some hosts a stock kernel crawls or stops there.
    """
    chosen = os.environ.get("PERSONACAM_VM_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    answer = CACHE / f"accelerator-{platform.release()}"
    if not answer.exists():
        probe = run(["true"], limit_s=_KVM_PROBE_S, accel="kvm")
        answer.write_text("kvm" if probe.status == 0 else "tcg")
    return answer.read_text()


def run(
    command: Sequence[str],
    *,
    limit_s: float = 600.0,
    environment: dict[str, str] | None = None,
    memory_mb: int = 4096,
    accel: str | None = None,
    follow: bool = False,
) -> Outcome:
    """Run ``command`` in a fresh guest, in the repository's folder, and wait for it at most ``limit_s``.

    ``follow`` copies its output to ours as it comes. Raises MachineError when no guest can be started.
    """
    kernel, problem = find_kernel(), missing()
    if kernel is None or problem is not None:
        raise MachineError(problem or "no kernel")
    accel = accel or accelerator()
    with tempfile.TemporaryDirectory(prefix="guest-", dir=CACHE) as place:
        result = Path(place)
        (result / "modules").write_text(str(kernel.modules))
        (result / "command").write_text(_script(command, environment or {}))
        (result / "output").touch()
        started = time.monotonic()
        timed_out, said, starved = _wait(_qemu(kernel, result, memory_mb, accel), result, limit_s, follow=follow)
        files = {file.name: file.read_bytes() for file in result.iterdir() if file.is_file()}
        wall_s = time.monotonic() - started
    output = files.pop("output").decode(errors="replace")
    if said.strip():
        output += f"\nQEMU: {said.strip()[-2000:]}"
    status = int(files.pop("status", b"").decode() or (124 if timed_out else 125))
    booted = files.pop("booted", b"0 0").split()
    log = files.pop("kernel.log", files.get("console", b"")).decode(errors="replace")
    return Outcome(status, output, log, float(booted[0]), wall_s, starved, files)


def _script(command: Sequence[str], environment: dict[str, str]) -> str:
    values = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        "OMP_NUM_THREADS": "1",
        "OPENCV_LOG_LEVEL": "ERROR",
        **environment,
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    return f"{exports}cd {shlex.quote(str(REPOSITORY))} || exit 125\nexec {shlex.join(command)}\n"


def _qemu(kernel: Kernel, result: Path, memory_mb: int, accel: str) -> list[str]:
    share = "security_model=none,multidevs=remap"
    if accel == "kvm":
        processor = ["-accel", "kvm", "-cpu", "host"]
    else:
        # Nehalem is the x86-64-v2 that NumPy asks for. Newer instructions are slower to emulate, not faster: with
        # ``max`` the boot takes twice as long and OBS crashes as soon as it encodes.
        processor = ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "Nehalem"]
    return [
        "nice", "-n", "5",
        "qemu-system-x86_64", *processor, "-smp", "2", "-m", str(memory_mb),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-kernel", str(kernel.image), "-initrd", str(kernel.initramfs),
        "-append", " ".join(BOOT_OPTIONS),
        "-serial", f"file:{result / 'console'}",
        "-virtfs", f"local,path=/,mount_tag=root,readonly=on,{share}",
        "-virtfs", f"local,path={result},mount_tag=result,{share}",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _wait(command: list[str], result: Path, limit_s: float, *, follow: bool) -> tuple[bool, str, float]:
    """(whether it had to be ended, what QEMU said itself, share of the time for which it was starved)."""
    shown, starved = 0, 0.0
    deadline = time.monotonic() + limit_s
    with tempfile.TemporaryFile() as said, _ended_with_us(command, said) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            if follow:
                text = (result / "output").read_bytes()
                sys.stdout.buffer.write(text[shown:])
                sys.stdout.buffer.flush()
                shown = len(text)
            starved = _starved(process.pid) or starved
            if process.returncode is not None or time.monotonic() > deadline:
                break
        timed_out = process.returncode is None
        if timed_out:
            process.kill()
            process.wait()
        said.seek(0)
        return timed_out, said.read().decode(errors="replace"), starved


def _starved(pid: int) -> float:
    """Time that the threads of a process waited for a core, over that and the time that they ran."""
    ran = waited = 0
    for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            numbers = statistics.read_text().split()
            ran, waited = ran + int(numbers[0]), waited + int(numbers[1])
    return waited / max(ran + waited, 1)


@contextlib.contextmanager
def _ended_with_us(command: list[str], said: object) -> Iterator[subprocess.Popen[bytes]]:
    """The process; killed on the way out, also by a signal that became an exception."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("setup")
    runs = verbs.add_parser("run")
    runs.add_argument("--limit", type=float, default=600.0)
    runs.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "setup":
            started = time.monotonic()
            kernel = setup()
            print(f"kernel {kernel.version} ready after {time.monotonic() - started:.0f} s, {accelerator()}")
            return 0
        outcome = run(arguments.command, limit_s=arguments.limit, follow=True)
    except MachineError as error:
        print(error, file=sys.stderr)
        return 125
    print(f"booted in {outcome.boot_s:.1f} s, {outcome.wall_s:.1f} s in all, status {outcome.status}")
    return outcome.status


if __name__ == "__main__":
    raise SystemExit(main())
