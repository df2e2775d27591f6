"""How a face set's shards look as bytes: pictures, and arrays in .npz files.

A shard is an uncompressed .npz. Pictures of one kind lie one behind the other in one byte array with (n + 1) offsets,
because .npz without pickles has no lists of bytes; uncompressed, so that a single picture can be read from a mapped
file. The same arrays always give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import math
import tokenize
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.picture import decode
from engines.types import U8

PictureFormat = Literal["jpeg", "webp"]
I64 = NDArray[np.int64]
MAX_PICTURE_PIXELS = 4 << 20
"""Of one stored picture; the manifest's size is compared after decoding."""
_LOCAL_HEADER = 30
"""Bytes of a zip member's local header before its name (APPNOTE.TXT 4.3.7)."""


def encode_crop(crop: U8, picture: PictureFormat, quality: int) -> bytes:
    """(S, S, 3) BGR as JPEG in full colour resolution, or as WebP, which always halves it."""
    if picture == "webp":
        return bytes(cv2.imencode(".webp", crop, [cv2.IMWRITE_WEBP_QUALITY, quality])[1])
    # At 160 pixels, halved chroma would blur lips and irises.
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return bytes(cv2.imencode(".jpg", crop, flags)[1])


def encode_png(picture: U8) -> bytes:
    """(S, S) without loss."""
    return bytes(cv2.imencode(".png", picture)[1])


def decode_colour(blob: U8) -> U8:
    """(S, S, 3) BGR. Raises ValueError for bytes that are no picture."""
    return decode(blob, max_pixels=MAX_PICTURE_PIXELS)


def decode_grey(blob: U8) -> U8:
    """(S, S). Raises ValueError for bytes that are no picture."""
    return decode(blob, cv2.IMREAD_GRAYSCALE, max_pixels=MAX_PICTURE_PIXELS)


def pack(name: str, blobs: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Encoded pictures as the arrays ``name`` (bytes) and ``name_offsets``."""
    return {
        name: np.frombuffer(b"".join(blobs), np.uint8),
        f"{name}_offsets": np.cumsum([0, *map(len, blobs)], dtype=np.int64),
    }


def unpack(name: str, arrays: Mapping[str, NDArray[Any]]) -> list[U8]:
    """What ``pack`` packed, without copies. Raises ValueError when the offsets do not fit."""
    data, offsets = arrays[name], arrays[f"{name}_offsets"]
    if data.ndim != 1 or data.dtype != np.uint8 or offsets.dtype.kind not in "iu":
        raise ValueError(f"{name} are not stored as bytes")
    if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(data):
        raise ValueError(f"offsets of {name} do not fit")
    if (np.diff(offsets) <= 0).any():
        raise ValueError(f"offsets of {name} do not grow")
    return [data[a:b] for a, b in itertools.pairwise(offsets.tolist())]


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed .npz."""
    blob = io.BytesIO()
    np.savez(blob, **arrays)  # type: ignore[arg-type]
    return blob.getvalue()


def map_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an uncompressed .npz as read-only views of the mapped file: only touched pages are read.

    Raises OSError, ValueError or zipfile.BadZipFile for a file that is none.
    """
    whole = np.memmap(path, np.uint8, "r")
    with path.open("rb") as file:
        return _views(file, whole)


def read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """Arrays of an uncompressed .npz as read-only views of its bytes: it takes no more memory than the file.

    Raises ValueError or zipfile.BadZipFile for bytes that are none.
    """
    return _views(io.BytesIO(data), np.frombuffer(data, np.uint8))


def _views(file: IO[bytes], whole: U8) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed")
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER)
            name_bytes, extra_bytes = (int.from_bytes(header[a : a + 2], "little") for a in (26, 28))
            file.seek(member.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes)
            shape, dtype = _array_header(file, member.filename)
            count = math.prod(shape)
            flat = np.frombuffer(whole, dtype, count, file.tell()) if count else np.zeros(0, dtype)
            arrays[member.filename.removesuffix(".npy")] = flat.reshape(shape)
    return arrays


def _array_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that begins here. Raises ValueError."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has an unknown header")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    # numpy parses the header as a Python literal and lets through what Python's parser raises.
    except (SyntaxError, tokenize.TokenError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} has a damaged header") from error
    if fortran or dtype.kind not in "biuf" or any(side < 0 for side in shape):
        raise ValueError(f"{name} has an unknown layout")
    return shape, dtype
