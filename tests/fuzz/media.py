"""Mutations of files of numbers, pictures and video that stay files of their kind. See ``formats``."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePath

from tests.fuzz.formats import BY_SUFFIX, INTEGERS, Random, change_tree, plain, weights

_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts", b"dinf", b"udta"})


# ---- weights, arrays, archives ---------------------------------------------------------------------------------------


def safetensors(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    choice = rng.randrange(4)
    if choice == 0:
        return rng.choice(INTEGERS).to_bytes(16, "little", signed=True)[:8] + data[8:]
    if choice == 1:
        body = weights(rng, body)
    else:
        change_tree(rng, head)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def npz(rng: Random, data: bytes) -> bytes:
    members = read_zip(data)
    name = rng.choice(list(members))
    choice = rng.randrange(7)
    if choice < 4:
        members[name] = _npy(rng, members[name])
    elif choice == 4:
        del members[name]
    elif choice == 5:
        members[rng.choice(("../evil.npy", "states.npy", "x.npy", "crops"))] = members[name]
    method = zipfile.ZIP_DEFLATED if choice == 6 else zipfile.ZIP_STORED
    if choice == 6:
        members[name] += bytes(rng.choice((0, 1 << 20, 64 << 20)))
    return write_zip(members, method)


def _npy(rng: Random, data: bytes) -> bytes:
    """An array with another header or other bytes."""
    if rng.random() < 0.4:
        return data[:128] + plain(rng, data[128:])
    length = int.from_bytes(data[8:10], "little")
    head = data[10 : 10 + length].decode("latin1")
    olds = [part for part in ("<i8", "|u1", "<f4", "False", "(", ",)") if part in head]
    new = ("|O", "<U4", "<f8", "True", "(99999999999, ", "(0, ", "(-1, ", "|V8", "9" * 400, "__import__('os')")
    head = head.replace(rng.choice(olds or ["'"]), rng.choice(new), 1)
    text = head.encode("latin1")
    return data[:8] + len(text).to_bytes(2, "little") + text + data[10 + length :]


def read_zip(data: bytes) -> dict[str, bytes]:
    """All members of a zip in memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write_zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip whose bytes depend on its members only."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.compress_type = 3, method
            archive.writestr(info, content)
    return out.getvalue()


def persona(rng: Random, data: bytes) -> bytes:
    """A member of it, with the manifest telling the truth about it, or the zip around it."""
    members = read_zip(data)
    if rng.random() < 0.15:
        return _bad_zip(rng, members)
    name = rng.choice(["swap.onnx", "swap.onnx", "manifest.json", "manifest.json", *members])
    members[name] = mutate(rng, name, members[name])
    if rng.random() < 0.9:
        try:
            head = json.loads(members["manifest.json"])
            inner = members.keys() - {"manifest.json", "signature"}
            head["members"] = {n: hashlib.sha256(members[n]).hexdigest() for n in inner}
            members["manifest.json"] = json.dumps(head).encode()
        except (ValueError, TypeError):
            pass
    return write_zip(members)


def _bad_zip(rng: Random, members: dict[str, bytes]) -> bytes:
    choice = rng.randrange(5)
    if choice == 0:
        return write_zip(members | {rng.choice(("../evil", "/etc/x", "a\\..\\b", "swap.onnx/", "consent.json")): b"x"})
    if choice == 1:
        return write_zip(members, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    if choice == 2:
        return write_zip(members | {"report.json": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)  # a bomb
    if choice == 3:
        return write_zip({name: content for name, content in members.items() if name != rng.choice(list(members))})
    whole = write_zip(members)
    at = whole.rfind(b"PK\x01\x02")  # the directory: names, sizes, offsets
    return whole[:at] + plain(rng, whole[at:-22]) + whole[-22:]


# ---- pictures and video ----------------------------------------------------------------------------------------------


def png(rng: Random, data: bytes) -> bytes:
    """Chunks changed with their checksums put right; the header first of all."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    which = 0 if rng.random() < 0.5 else rng.randrange(len(chunks))
    kind, body = chunks[which]
    if kind == b"IHDR" and rng.random() < 0.7:
        size = [rng.choice((1, 2, 4096, 30_000, 65_535, 2**20, 2**31 - 1)) for _ in range(2)]
        body = struct.pack(">II", *size) + body[8:]
    else:
        body = plain(rng, body)
    chunks[which] = kind, body
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(1, len(chunks) + 1), rng.choice(chunks))
    return data[:8] + b"".join(_chunk(*c) for c in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg(rng: Random, data: bytes) -> bytes:
    """The size in the frame header, or the bytes of a segment."""
    at = next((data.find(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in data), -1)
    if at < 0 or rng.random() < 0.5:
        return plain(rng, data)
    size = [rng.choice((0, 1, 4096, 30_000, 65_535)) for _ in range(2)]
    return data[: at + 5] + struct.pack(">HH", *size) + data[at + 9 :]


def webp(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return plain(rng, data)
    return data[:20] + rng.randbytes(10) + data[30:]  # the first chunk's header holds the size


def mp4(rng: Random, data: bytes) -> bytes:
    """A box's numbers, its kind, its length; boxes removed and repeated."""
    boxes = list(_boxes(data, 0, len(data)))
    start, end = rng.choice(boxes)
    choice = rng.randrange(6)
    box = data[start:end]
    if choice == 0:
        return data[:start] + data[end:]
    if choice == 1:
        return data[:end] + box + data[end:]
    if choice == 2:
        return data[:start] + struct.pack(">I", rng.choice(INTEGERS) & 0xFFFFFFFF) + data[start + 4 :]
    if choice == 3:
        return data[: start + 4] + rng.choice((b"free", b"trak", b"moov", b"stco", b"uuid")) + data[start + 8 :]
    if len(box) > 12:
        at = start + 8 + rng.randrange((len(box) - 8) // 4) * 4
        return data[:at] + struct.pack(">I", rng.choice(INTEGERS) & 0xFFFFFFFF) + data[at + 4 :]
    return plain(rng, data)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start + 8 <= end:
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if length < 8 or start + length > end:
            return
        yield start, start + length
        if kind in _BOXES:
            yield from _boxes(data, start + 8, start + length)
        start += length


def mutate(rng: Random, name: str, data: bytes) -> bytes:
    """One mutation of a file, by the kind that its name ends in; now and then as plain bytes whatever it is."""
    special = _BY_SUFFIX.get(PurePath(name).suffix)
    if special is None or rng.random() < 0.15:
        return plain(rng, data)
    try:
        return special(rng, data)
    except Exception:  # an earlier mutation left nothing that can be parsed
        return plain(rng, data)


_BY_SUFFIX: dict[str, Callable[[Random, bytes], bytes]] = {
    **BY_SUFFIX, ".safetensors": safetensors, ".npz": npz, ".persona": persona, ".png": png, ".jpg": jpeg,
    ".webp": webp, ".mp4": mp4,
}  # fmt: skip
