"""The zip around a persona: which members there may be, how large they may be, and nothing else.

Checked on the directory at the end of the file before anything is read: number of members, names from a fixed list
(so no absolute path, no parent, no duplicate), stored without compression or encryption, sizes. Checked again while
reading.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

from engines.errors import PersonaFormatError

MEMBER_LIMITS: Mapping[str, int] = {
    "manifest.json": 64 << 10,
    "swap.onnx": 512 << 20,
    "decoder.safetensors": 256 << 20,
    "preview.webp": 2 << 20,
    "report.json": 1 << 20,
    "consent.json": 64 << 10,
    "signature": 1 << 10,
}
"""Every member that there may be, in the order of writing -> its largest size in bytes."""
MAX_FILE_BYTES = 640 << 20
"""What an imported model of the largest kind needs; for our own networks ``onnx_guard`` allows much less."""

_END = struct.Struct("<4s4H2LH")  # PKWARE's APPNOTE 4.3.16, end of central directory record
_MAX_DIRECTORY_BYTES = 4096
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError, struct.error)
"""What zipfile raises or lets through for damaged headers."""
_HINT = "get the file again from its author; it was damaged or changed"


def _refuse(reason: str) -> PersonaFormatError:
    return PersonaFormatError(f"not a valid persona file: {reason}", hint=_HINT)


def pack(members: Mapping[str, bytes]) -> bytes:
    """A zip of ``members`` in the fixed order; the same members give the same bytes. Raises PersonaFormatError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, limit in MEMBER_LIMITS.items():
            if name not in members:
                continue
            if len(members[name]) > limit:
                raise _refuse(f"{name} has {len(members[name])} bytes, {limit} are allowed")
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix on every machine, so that the bytes do not depend on it
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    data = buffer.getvalue()
    if unknown := members.keys() - MEMBER_LIMITS.keys():
        raise _refuse(f"unknown member {min(unknown)!r}")
    if len(data) > MAX_FILE_BYTES:
        raise _refuse(f"{len(data)} bytes together, {MAX_FILE_BYTES} are allowed")
    return data


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of a file's bytes. Raises PersonaFormatError for anything that :func:`pack` would not have made."""
    if len(data) > MAX_FILE_BYTES:
        raise _refuse(f"{len(data)} bytes, {MAX_FILE_BYTES} are allowed")
    _check_end(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_directory(infos)
            return {info.filename: _read(archive, info) for info in infos}
    except _DAMAGED as error:
        raise _refuse(str(error)) from error


def _check_end(data: bytes) -> None:
    """The record at the end, before zipfile builds a list as long as the file says."""
    if len(data) < _END.size:
        raise _refuse("it is too short")
    if data[-_END.size - 20 :][:4] == b"PK\x06\x07":
        raise _refuse("it uses zip64, which would override the limits")
    magic, disk, start_disk, here, entries, size, offset, comment = _END.unpack(data[-_END.size :])
    if magic != b"PK\x05\x06" or comment:
        raise _refuse("it is no zip, or its end is missing")
    if disk or start_disk or here != entries or not 1 <= entries <= len(MEMBER_LIMITS):
        raise _refuse(f"{entries} members")
    if size > _MAX_DIRECTORY_BYTES or offset + size + _END.size != len(data):
        raise _refuse("its directory does not lie where it says")


def _check_directory(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise _refuse("a member stands twice")
    for info in infos:
        if info.filename not in MEMBER_LIMITS:
            raise _refuse(f"unknown member {info.filename[:60]!r}")
        if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, encrypted directory
            raise _refuse(f"{info.filename} is encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _refuse(f"{info.filename} is compressed")
        if info.file_size > MEMBER_LIMITS[info.filename]:
            raise _refuse(f"{info.filename} has {info.file_size} bytes, {MEMBER_LIMITS[info.filename]} are allowed")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """One member; the checksum is verified by zipfile, the size here."""
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    if len(content) != info.file_size:
        raise _refuse(f"{info.filename} has not the size that the directory says")
    return content


def check_contents(preview: bytes | None, decoder: bytes | None) -> None:
    """A first look at what other programs will open. Raises PersonaFormatError."""
    if preview is not None and not (preview[:4] == b"RIFF" and preview[8:12] == b"WEBP"):
        raise PersonaFormatError("preview.webp is no WebP picture", hint=_HINT)
    if decoder is not None:
        # safetensors: eight bytes of length, then that much JSON. A pickle cannot look like this.
        length = int.from_bytes(decoder[:8], "little")
        if len(decoder) < 10 or length > len(decoder) - 8 or decoder[8:9] != b"{":
            raise PersonaFormatError("decoder.safetensors holds no safetensors", hint=_HINT)
