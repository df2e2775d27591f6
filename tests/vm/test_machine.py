"""What the guests' tests are made of, without a guest: seconds."""

from __future__ import annotations

import lzma
import platform
import shutil
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.vm import kernel
from tests.vm.guest import clients, framecode


def picture(number: int) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(60, 190, (480, 640, 3), dtype=np.uint8)
    framecode.draw_colours(pixels)
    framecode.draw_number(pixels, number)
    return pixels


@pytest.mark.parametrize("number", [0, 1, 255, 341, framecode.COUNT - 1])
def test_number_and_colours_survive_jpeg_and_i420(number: int) -> None:
    pixels = picture(number)
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    jpeg = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    assert framecode.read_number(jpeg[:, :, 1]) == number
    assert framecode.colour_error(framecode.read_colours(jpeg[:, :, ::-1])) <= 2
    planes = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
    assert framecode.read_number(planes[: 640 * 480].reshape(480, 640)) == number
    rgb = framecode.i420_to_rgb(planes, 640, 480)
    assert framecode.colour_error(framecode.read_colours(rgb)) <= 3


def test_a_damaged_or_missing_number_is_none() -> None:
    pixels = picture(77)
    torn = pixels.copy()
    torn[: framecode.CELL, :] = 235
    for bad in (torn, np.roll(pixels, 8, axis=1), np.zeros_like(pixels), cv2.blur(pixels, (61, 61))):
        assert framecode.read_number(bad[:, :, 1]) is None


def test_wrong_colours_are_noticed() -> None:
    pixels = picture(3)
    assert framecode.colour_error(framecode.read_colours(pixels[:, :, ::-1])) == 0
    assert framecode.colour_error(framecode.read_colours(pixels)) > 100, "red and blue exchanged"


def test_order_loss_and_repeats_are_told_apart() -> None:
    last = framecode.COUNT - 1
    found = clients.judge([last - 1, last, 0, 0, 3, None, 2])
    assert (found["backwards"], found["repeats"], found["lost"], found["unread"]) == (1, 1, 2, 1)


def test_latency_is_from_the_last_use_of_a_number() -> None:
    class Sent:
        times = np.zeros(2 * framecode.COUNT)
        count = type("Count", (), {"value": framecode.COUNT + 2})

    Sent.times[[1, framecode.COUNT, framecode.COUNT + 1]] = 10.0, 30.0, 31.0
    assert clients.latencies([1, None, 1], [10.5, 11.0, 31.25], Sent) == [500.0, 250.0]


def test_the_kernel_is_found_in_its_image() -> None:
    elf = b"\x7fELF" + bytes(100)
    packed = lzma.compress(elf)
    image = bytearray(1024 + 32) + packed + bytes(50)
    image[0x1F1] = 1
    struct.pack_into("<II", image, 0x248, 32, len(packed))
    assert kernel.unpack_kernel(bytes(image)) == elf


def test_why_there_is_no_guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert "QEMU is missing" in str(kernel.missing())
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(kernel, "CACHE", tmp_path)
    assert "kernel is not unpacked" in str(kernel.missing())
    (tmp_path / "linux-6.1").mkdir()
    (tmp_path / "linux-6.1" / "ready").touch()
    assert kernel.missing() is None
    assert kernel.find_kernel() == kernel.Kernel("6.1", tmp_path / "linux-6.1")
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Linux" in str(kernel.missing())
