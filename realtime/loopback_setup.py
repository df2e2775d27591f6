"""Setting up v4l2loopback so that it survives a restart: plans of commands, which are printed or run as root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.errors import SinkUnavailableError
from realtime.loopback import LABEL, MOK_KEYS, LoopbackFacts

OPTIONS = f"options v4l2loopback devices=1 video_nr=10 exclusive_caps=1 card_label={LABEL}"
"""With a number of its own: loaded at the start it would take the webcam's 0."""
MODPROBE_FILE = "/etc/modprobe.d/personacam.conf"
LOAD_FILE = "/etc/modules-load.d/personacam.conf"
INSTALL = "personacam virtualcam install --apply"
_PACKAGES = {
    "debian": "sudo apt install v4l2loopback-dkms linux-headers-{kernel}",
    "arch": "sudo pacman -S v4l2loopback-dkms linux-headers",
    "fedora": "sudo dnf install akmod-v4l2loopback, from RPM Fusion (rpmfusion.org/Configuration)",
    "suse": "sudo zypper install v4l2loopback-kmp-default",
}


def install_module(facts: LoopbackFacts) -> str:
    """How to get the module where it is missing."""
    if facts.source and not facts.headers:
        if facts.distribution == "debian":
            return f"sudo apt install linux-headers-{facts.kernel}, which builds it"
        return f"install the headers of kernel {facts.kernel}, then: sudo dkms autoinstall"
    if facts.source:
        return "sudo dkms autoinstall; if that fails, the log it names says why (often a module older than the kernel)"
    command = _PACKAGES.get(facts.distribution, "install your distribution's package of v4l2loopback")
    return command.format(kernel=facts.kernel) + f"; then: {INSTALL}"


def sign_module(facts: LoopbackFacts) -> str:
    """What makes Secure Boot accept the module."""
    if facts.signed and facts.mok_key:
        enroll = f"sudo mokutil --import {facts.mok_key}"
    elif facts.source:
        enroll = (
            "sudo dkms remove v4l2loopback --all; sudo dkms autoinstall (signs it with a key of its own); "
            f"sudo mokutil --import {facts.mok_key or MOK_KEYS[1]}"
        )
    else:
        return "install v4l2loopback through DKMS, which signs it, or switch Secure Boot off in the firmware"
    return f"{enroll}; give it a password, restart, choose Enroll MOK in the blue screen and type that password"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a plan."""

    why: str
    command: tuple[str, ...]
    stdin: str | None = None
    """What it reads: the content of the file that it writes."""

    def shell(self, prefix: str = "sudo ") -> str:
        """The same as a line for a shell."""
        line = prefix + shlex.join(self.command)
        return line if self.stdin is None else f"printf '%s\\n' {shlex.quote(self.stdin.rstrip())} | {line}"


def write(file: str) -> tuple[str, ...]:
    """The command that writes its standard input to ``file``, in a folder that may not be there yet."""
    return "sh", "-c", f"mkdir -p {shlex.quote(os.path.dirname(file))} && cat > {shlex.quote(file)}"  # noqa: PTH120


def install_plan(facts: LoopbackFacts) -> tuple[Step, ...]:
    """What makes a device "personacam" now and after every start. Raises SinkUnavailableError when that cannot work:
    no module, a refused signature, another configuration, devices that are in use.
    """
    if not facts.modular:
        raise SinkUnavailableError(
            f"kernel {facts.kernel} loads no modules", hint="run this on the computer itself, not in a container"
        )
    if not facts.built and not facts.loaded:
        raise SinkUnavailableError(f"there is no v4l2loopback for kernel {facts.kernel}", hint=install_module(facts))
    if not facts.loaded and facts.secure_boot and facts.signed is False:
        raise SinkUnavailableError("Secure Boot is on and v4l2loopback is not signed", hint=sign_module(facts))
    foreign = [(file, line) for file, line in facts.options if file != MODPROBE_FILE]
    if foreign:
        file, line = foreign[0]
        raise SinkUnavailableError(
            f"{file} already sets up v4l2loopback: {line}",
            hint=f"delete that line, or add a device to it by hand (devices=2 exclusive_caps=1,1 card_label=…,{LABEL})",
        )
    steps = [
        Step("options of the module", write(MODPROBE_FILE), OPTIONS + "\n"),
        Step("load it when the computer starts", write(LOAD_FILE), "v4l2loopback\n"),
    ]
    ready = [device for device in facts.devices if device.name == LABEL and device.exclusive is not False]
    if not facts.loaded:
        steps.append(Step("load it now", ("modprobe", "v4l2loopback")))
    elif not ready and facts.dynamic:
        command = ("v4l2loopback-ctl", "add", "-n", LABEL, "-x", "1")
        steps.append(Step("add a device; the others stay as they are", command))
    elif not ready:
        steps += _reload(facts)
    return tuple(steps)


def _reload(facts: LoopbackFacts) -> list[Step]:
    """The module has to be taken out to take other options; that is impossible while a program holds a device."""
    holders = sorted({holder for device in facts.devices for holder in device.holders})
    if holders:
        raise SinkUnavailableError(
            f"v4l2loopback is loaded with other options, and in use by {', '.join(holders)}",
            hint="end these programs, then try again",
        )
    return [
        Step("take it out, to load it with these options", ("modprobe", "-r", "v4l2loopback")),
        Step("load it again", ("modprobe", "v4l2loopback")),
    ]


def remove_plan(facts: LoopbackFacts) -> tuple[Step, ...]:
    """What undoes ``install_plan``: our files, and the device if it can go now. Others' devices stay."""
    steps = [Step("forget the configuration", ("rm", "-f", MODPROBE_FILE, LOAD_FILE))]
    own = [device for device in facts.devices if device.name == LABEL]
    if own and len(own) == len(facts.devices) and not any(device.holders for device in own):
        steps.append(Step("take the module out", ("modprobe", "-r", "v4l2loopback")))
    elif facts.dynamic:
        steps += [
            Step("remove the device", ("v4l2loopback-ctl", "delete", device.path))
            for device in own
            if not device.holders
        ]
    return tuple(steps)


Run = Callable[[Sequence[str], "str | None"], tuple[int, str]]
"""(command, standard input) -> (exit status, what it said on standard error)."""


def run_command(command: Sequence[str], stdin: str | None) -> tuple[int, str]:
    """Run one command; its password prompt, if any, goes to the terminal."""
    try:
        done = subprocess.run(
            list(command), input=stdin, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
            stdin=None if stdin is not None else subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stderr


def root_prefix() -> tuple[str, ...]:
    """What makes a command run as root: nothing for root itself. Raises SinkUnavailableError where nothing can."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return ()
    for program in ("sudo", "doas", "pkexec"):
        if shutil.which(program) is not None:
            return (program,)
    raise SinkUnavailableError("this needs root, and there is no sudo", hint="run it again as root")


def carry_out(steps: Sequence[Step], facts: LoopbackFacts, prefix: Sequence[str] = (), run: Run = run_command) -> None:
    """Run a plan, in its order. Raises SinkUnavailableError at the first command that fails, with its repair."""
    for step in steps:
        status, said = run([*prefix, *step.command], step.stdin)
        if status:
            words = said.strip().splitlines()
            raise SinkUnavailableError(
                f"{shlex.join(step.command)} failed: {words[-1] if words else f'status {status}'}",
                hint=explain_failure(said, facts),
            )


def explain_failure(said: str, facts: LoopbackFacts) -> str:
    """The repair for what modprobe says (messages of kmod and of the kernel's module loader)."""
    if "Key was rejected" in said or "Required key not available" in said:
        return sign_module(facts)
    if "Operation not permitted" in said:
        return sign_module(facts) if facts.secure_boot else "this needs root: run it again with sudo"
    if "not found in directory" in said:
        return install_module(facts)
    if "is in use" in said or "busy" in said.lower():
        return "end the programs that show or use the virtual camera, then try again"
    if "Exec format error" in said or "Invalid module format" in said or "Unknown symbol" in said:
        return "it was built for another kernel: sudo dkms autoinstall, or restart if the kernel was updated"
    if "assword" in said or "incorrect" in said:
        return "the password was not accepted; try again, or run the printed commands as root"
    return "run the printed commands one by one; dmesg tells more"
