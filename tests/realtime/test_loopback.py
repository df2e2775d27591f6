"""What there is of v4l2loopback, read from a tree of files like a computer's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from realtime import v4l2
from realtime.loopback import LoopbackDevice, gather

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
KERNEL = "6.1.0-56-amd64"
EFI = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def put(root: Path, path: str, content: str | bytes = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def test_an_empty_computer(tmp_path: Path) -> None:
    facts = gather(tmp_path, KERNEL)
    assert (facts.kernel, facts.modular, facts.loaded, facts.built, facts.devices) == (KERNEL, False, False, False, ())
    assert facts.secure_boot is None
    assert facts.distribution == facts.mok_key == ""


def test_a_computer_where_it_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "proc/modules")
    put(tmp_path, "sys/module/v4l2loopback/version", "0.12.7\n")
    put(tmp_path, "sys/class/video4linux/video97/name", "personacam\n")
    put(tmp_path, "sys/class/video4linux/video98/name", "HD Webcam\n")
    put(tmp_path, f"lib/modules/{KERNEL}/updates/dkms/v4l2loopback.ko", b"code" * 20 + b"~Module signature appended~\n")
    put(tmp_path, f"lib/modules/{KERNEL}/build/Makefile")
    put(tmp_path, EFI, b"\x06\0\0\0\x01")
    put(tmp_path, "var/lib/dkms/mok.pub", b"key")
    put(tmp_path, "var/lib/dkms/v4l2loopback/0.12.7/source/dkms.conf")
    put(tmp_path, "etc/os-release", 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n')
    put(tmp_path, "etc/modules-load.d/personacam.conf", "# ours\nv4l2loopback\n")
    put(tmp_path, "etc/modprobe.d/obs.conf", "# options v4l2loopback no\noptions v4l2loopback video_nr=9\n")
    put(tmp_path, "usr/lib/modprobe.d/obs.conf", "options v4l2loopback devices=7\n")
    put(tmp_path, "usr/lib/modprobe.d/other.conf", "options snd index=1\n")
    answers = {
        "/dev/video97": v4l2.Capability("v4l2 loopback", "personacam", captures=False, outputs=True),
        "/dev/video98": v4l2.Capability("uvcvideo", "HD Webcam", captures=True, outputs=False),
    }
    monkeypatch.setattr(v4l2, "query", answers.get)
    monkeypatch.setattr("realtime.loopback.os.access", lambda *_: True)
    facts = gather(tmp_path, KERNEL)
    assert facts.devices == (LoopbackDevice("/dev/video97", "personacam", captures=False, outputs=True),)
    assert facts.devices[0].exclusive
    assert not facts.devices[0].busy
    assert (facts.modular, facts.loaded, facts.version, facts.built, facts.signed) == (True, True, "0.12.7", True, True)
    assert (facts.secure_boot, facts.mok_key) == (True, "/var/lib/dkms/mok.pub")
    assert (facts.source, facts.headers, facts.distribution, facts.at_boot) == (True, True, "debian", True)
    assert facts.options == (("/etc/modprobe.d/obs.conf", "options v4l2loopback video_nr=9"),), (
        "/etc stands for /usr/lib"
    )
    assert not facts.dynamic, "0.12.7 has no devices on demand, whatever tool there is"
    put(tmp_path, "dev/v4l2loopback")
    monkeypatch.setattr("realtime.loopback.shutil.which", lambda _name: "v4l2loopback-ctl")
    assert gather(tmp_path, KERNEL).dynamic


def test_a_device_that_may_not_be_asked_and_an_unsigned_module(tmp_path: Path) -> None:
    put(tmp_path, "sys/module/v4l2loopback/version", "0.15.0")
    put(tmp_path, "sys/class/video4linux/video97/name", "personacam")
    put(tmp_path, "sys/class/video4linux/video98/name", "HD Webcam")
    put(tmp_path, f"lib/modules/{KERNEL}/extra/v4l2loopback.ko", b"code" * 20)
    put(tmp_path, EFI, b"\x06\0\0\0\0")
    facts = gather(tmp_path, KERNEL)
    assert facts.devices == (LoopbackDevice("/dev/video97", "personacam", writable=False),)
    assert facts.devices[0].exclusive is None
    assert facts.signed is False
    assert facts.secure_boot is False


@pytest.mark.parametrize(
    ("release", "family"),
    [("ID=arch", "arch"), ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "suse"), ("ID=fedora", "fedora"),
     ("ID=rocky\nID_LIKE='rhel centos fedora'", "fedora"), ("ID=nixos", ""), ("nonsense", "")],
)  # fmt: skip
def test_families(tmp_path: Path, release: str, family: str) -> None:
    put(tmp_path, "etc/os-release", release)
    assert gather(tmp_path, KERNEL).distribution == family
