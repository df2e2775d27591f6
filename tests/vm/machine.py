"""A throw-away QEMU guest with Debian's stock kernel, whose root is this computer's, read-only, under memory.

Whatever apt and pip installed here is there too, at the same paths, and nothing that the guest does is left here. The
kernel is the one of Debian's package, unpacked and never installed; v4l2loopback is built from Debian's sources for it.

    python -m tests.vm.machine setup
    python -m tests.vm.machine run [--limit SECONDS] -- COMMAND ...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.kernel import CACHE, Kernel, MachineError, find_kernel, missing, setup

__all__ = ["REPOSITORY", "MachineError", "Outcome", "accelerator", "missing", "run", "setup"]

REPOSITORY = Path(__file__).resolve().parents[2]
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
_KVM_PROBE_S = 25.0


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
