"""Plans that set v4l2loopback up for good: what they contain, what stops them, and what they are run as."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engines.errors import SinkUnavailableError
from realtime import loopback_setup
from realtime.loopback import LoopbackDevice, LoopbackFacts
from realtime.loopback_setup import (
    LOAD_FILE,
    MODPROBE_FILE,
    Step,
    carry_out,
    explain_failure,
    install_plan,
    remove_plan,
    root_prefix,
    run_command,
    write,
)

OWN = LoopbackDevice("/dev/video9", "personacam", captures=False, outputs=True)
OBS = LoopbackDevice("/dev/video8", "OBS", captures=False, outputs=True)
HELD = LoopbackDevice("/dev/video8", "OBS", captures=True, outputs=False, holders=("obs (pid 7)",))


def facts(**known: object) -> LoopbackFacts:
    return LoopbackFacts("6.1.0", **{"built": True, **known})  # type: ignore[arg-type]


def commands(steps: Sequence[Step]) -> list[str]:
    return [" ".join(step.command) for step in steps]


WRITES = [f"sh -c mkdir -p {Path(file).parent} && cat > {file}" for file in (MODPROBE_FILE, LOAD_FILE)]
RELOAD = ["modprobe -r v4l2loopback", "modprobe v4l2loopback"]


@pytest.mark.parametrize(
    ("known", "then"),
    [
        ({}, ["modprobe v4l2loopback"]),
        ({"loaded": True, "devices": (OWN,)}, []),
        ({"loaded": True, "devices": (OBS,), "control_tool": True}, RELOAD),
        ({"loaded": True, "devices": (OBS,), "control": True}, RELOAD),  # Debian's tool is a package of its own
        (
            {"loaded": True, "devices": (OBS,), "control": True, "control_tool": True},
            ["v4l2loopback-ctl add -n personacam -x 1"],
        ),
        ({"options": ((MODPROBE_FILE, "options v4l2loopback devices=1"),)}, ["modprobe v4l2loopback"]),
    ],
)
def test_install(known: dict[str, object], then: list[str]) -> None:
    steps = install_plan(facts(**known))
    assert commands(steps) == WRITES + then
    assert steps[0].stdin == "options v4l2loopback devices=1 video_nr=10 exclusive_caps=1 card_label=personacam\n"
    assert steps[1].stdin == "v4l2loopback\n"


@pytest.mark.parametrize(
    ("known", "message", "hint"),
    [
        ({"modular": False}, "loads no modules", "container"),
        ({"built": False}, "no v4l2loopback for kernel 6.1.0", "package of v4l2loopback"),
        ({"secure_boot": True, "signed": False, "source": True}, "not signed", "mokutil --import"),
        (
            {"options": (("/etc/modprobe.d/obs.conf", "options v4l2loopback devices=2"),)},
            "obs.conf",
            "delete that line",
        ),
        ({"loaded": True, "devices": (HELD,), "version": "0.12.7"}, "in use by obs", "end these programs"),
    ],
)
def test_what_stops_it(known: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(SinkUnavailableError, match=message) as caught:
        install_plan(facts(**known))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("known", "then"),
    [
        ({}, []),
        ({"loaded": True, "devices": (OWN,)}, ["modprobe -r v4l2loopback"]),
        ({"loaded": True, "devices": (OWN, OBS)}, []),
        ({"loaded": True, "devices": (OWN, OBS), "control": True, "control_tool": True},
         ["v4l2loopback-ctl delete /dev/video9"]),
        ({"loaded": True, "devices": (OBS,)}, []),
    ],
)  # fmt: skip
def test_remove_leaves_others_alone(known: dict[str, object], then: list[str]) -> None:
    assert commands(remove_plan(facts(**known))) == [f"rm -f {MODPROBE_FILE} {LOAD_FILE}", *then]


def test_a_plan_is_run_in_order_until_something_fails() -> None:
    ran: list[tuple[Sequence[str], str | None]] = []

    def run(command: Sequence[str], stdin: str | None) -> tuple[int, str]:
        ran.append((command, stdin))
        bad = "modprobe: ERROR: could not insert 'v4l2loopback': Key was rejected by service\n"
        return (1, bad) if "modprobe" in command else (0, "")

    state = facts(secure_boot=True, signed=True, mok_key="/var/lib/shim-signed/mok/MOK.der")
    with pytest.raises(SinkUnavailableError, match="Key was rejected by service") as caught:
        carry_out([*install_plan(state), Step("never", ("true",))], state, ("sudo",), run)
    assert "mokutil --import /var/lib/shim-signed/mok/MOK.der" in caught.value.hint
    assert [command[0] for command, _ in ran] == ["sudo"] * 3
    assert ran[1] == (["sudo", *write(LOAD_FILE)], "v4l2loopback\n")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("modprobe: FATAL: Module v4l2loopback not found in directory /lib/modules/6.1.0", "package of v4l2loopback"),
        ("modprobe: FATAL: Module v4l2loopback is in use.", "end the programs"),
        ("could not insert 'v4l2loopback': Operation not permitted", "sudo"),
        ("could not insert 'v4l2loopback': Exec format error", "dkms autoinstall"),
        ("sudo: a password is required", "password"),
        ("something new", "dmesg"),
    ],
)
def test_what_modprobe_says_has_a_repair(said: str, hint: str) -> None:
    assert hint in explain_failure(said, facts())


@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell")
def test_the_printed_line_writes_the_file_and_so_does_the_real_command(tmp_path: Path) -> None:
    for name, how in (("printed", "shell"), ("run", "run")):
        file = tmp_path / "new folder" / name
        step = Step("write", write(str(file)), "options a b=c\n")
        if how == "shell":
            subprocess.run(step.shell(prefix=""), shell=True, check=True)
        else:
            carry_out([step], facts())
        assert file.read_text() == "options a b=c\n"
    assert run_command(("/no/such/program",), None)[0] == 127


def test_who_becomes_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback_setup.os, "geteuid", lambda: 0, raising=False)
    assert root_prefix() == ()
    monkeypatch.setattr(loopback_setup.os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(loopback_setup.shutil, "which", lambda name: name if name == "doas" else None)
    assert root_prefix() == ("doas",)
    monkeypatch.setattr(loopback_setup.shutil, "which", lambda _name: None)
    with pytest.raises(SinkUnavailableError, match="root"):
        root_prefix()
