"""The zip around a persona, attacked with zips that other tools make."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from engines.errors import PersonaFormatError
from engines.persona_zip import MEMBER_LIMITS, pack, unpack

MEMBERS = {"manifest.json": b"{}", "report.json": b'{"a": 1}', "swap.onnx": bytes(1000)}


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_round_trip_whatever_the_order() -> None:
    assert unpack(pack(MEMBERS)) == MEMBERS
    assert pack(dict(reversed(MEMBERS.items()))) == pack(MEMBERS)


def test_plain_zips_of_other_tools_are_read() -> None:
    assert unpack(zipped(list(MEMBERS.items()))) == MEMBERS


@pytest.mark.parametrize(
    "name",
    [
        "../manifest.json", "/manifest.json", "C:\\manifest.json", "a/manifest.json", "manifest.json/", "MANIFEST.JSON",
        "weights.pkl", "__init__.py", "swap.onnx.data", "manifest.json\x00.txt"[:13] + "x",
    ],
    ids=repr,
)  # fmt: skip
def test_names_outside_of_the_list(name: str) -> None:
    with pytest.raises(PersonaFormatError):
        unpack(zipped([*MEMBERS.items(), (name, b"x")]))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_twice() -> None:
    with pytest.raises(PersonaFormatError, match="twice"):
        unpack(zipped([*MEMBERS.items(), ("report.json", b"{}")]))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members(method: int) -> None:
    with pytest.raises(PersonaFormatError, match="compressed"):
        unpack(zipped(list(MEMBERS.items()), method))


def patched(data: bytes, name: bytes, offset: int, form: str, value: int) -> bytes:
    """The zip with one field of a member's entry in the directory at the end overwritten."""
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(name))
    changed = bytearray(data)
    struct.pack_into(form, changed, entry + offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (8, "<H", 0x1), (8, "<H", 0x41), (10, "<H", 8), (10, "<H", 99), (16, "<I", 7), (20, "<I", 10),
        (24, "<I", 10**9), (24, "<I", 0xFFFFFFFF), (42, "<I", 5), (42, "<I", 0x7FFFFFFF), (28, "<H", 3),
        (30, "<H", 500),
    ],
    ids=[
        "encrypted", "strongly encrypted", "deflated", "unknown method", "checksum", "stored size", "bomb", "zip64",
        "header elsewhere", "header beyond the end", "short name", "extra field",
    ],
)  # fmt: skip
def test_directory_entries_that_lie(offset: int, form: str, value: int) -> None:
    with pytest.raises(PersonaFormatError):
        unpack(patched(pack(MEMBERS), b"swap.onnx", offset, form, value))


def test_a_bomb_that_declares_little() -> None:
    """Deflated zeros, both headers patched to say that they are stored and small."""
    bomb = zlib.compress(bytes(5_000_000), 9)[2:-4]
    data = bytearray(pack(MEMBERS | {"swap.onnx": bomb}))
    for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        entry = data.rindex(signature, 0, data.rindex(b"swap.onnx") if signature[2] == 1 else data.index(b"swap.onnx"))
        struct.pack_into("<H", data, entry + at, 8)
    with pytest.raises(PersonaFormatError, match="compressed"):
        unpack(bytes(data))


def test_limits_on_writing_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"preview.webp": bytes(MEMBER_LIMITS["preview.webp"] + 1)}
    with pytest.raises(PersonaFormatError, match="allowed"):
        pack(large)
    with pytest.raises(PersonaFormatError, match="allowed"):
        unpack(zipped(list(large.items())))
    monkeypatch.setattr("engines.persona_zip.MAX_FILE_BYTES", 100)
    with pytest.raises(PersonaFormatError, match="allowed"):
        unpack(zipped(list(MEMBERS.items())))
    with pytest.raises(PersonaFormatError, match="allowed"):
        pack(MEMBERS)


def test_many_members_are_refused_before_a_list_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped([(f"m{i}", b"") for i in range(2000)])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(PersonaFormatError, match="2000 members"):
        unpack(data)


def test_zip64_end_records_and_comments() -> None:
    data = pack(MEMBERS)
    end = data[-22:]
    locator = b"PK\x06\x07" + bytes(16)
    with pytest.raises(PersonaFormatError):
        unpack(data[:-22] + locator + end)
    size = struct.unpack_from("<L", end, 12)[0] + len(locator)
    with pytest.raises(PersonaFormatError, match="zip64"):
        unpack(data[:-22] + locator + end[:12] + struct.pack("<L", size) + end[16:])
    with pytest.raises(PersonaFormatError):
        unpack(data[:-2] + struct.pack("<H", 4) + b"note")


def test_unknown_members_are_not_written() -> None:
    with pytest.raises(PersonaFormatError, match="unknown"):
        pack({"../x": b""})
