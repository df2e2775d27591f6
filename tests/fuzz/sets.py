"""Face sets, pictures and clips: files that readers accept, and their use. See ``targets``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from engines.errors import DataError, PersonacamError

Case = Mapping[str, bytes]
"""Name of a file -> its bytes."""


# ---- face sets -------------------------------------------------------------------------------------------------------


@cache
def _faceset() -> dict[str, bytes]:
    from engines.faceset import FaceSetInfo
    from engines.faceset_writer import FaceSetWriter
    from tests.engines.synthetic import faces

    info = FaceSetInfo("cartoons 1", "invented:0", {"people": 0}, 24, extras=("gaze",))
    with tempfile.TemporaryDirectory() as folder:
        writer = FaceSetWriter(Path(folder), info)
        for seed, (name, role) in enumerate((("ann", "wearer"), ("mara", "persona"))):
            gaze = {"gaze": np.zeros((2, 2), np.float32)}
            writer.add(name, role, "train", [0, 1], *faces(seed, [0, 1], 24), gaze)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def facesets() -> list[Case]:
    return [_faceset()]


def sign_faceset(files: dict[str, bytes]) -> None:
    manifest = json.loads(files["manifest.json"])
    for shard in manifest["shards"]:
        data = files[shard["file"]]
        shard["sha256"], shard["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    files["manifest.json"] = json.dumps(manifest).encode()


def read_faceset(folder: Path) -> None:
    from engines.faceset import read_faceset
    from engines.torch_faceset import LazyFaces

    with contextlib.suppress(DataError):
        read_faceset(folder, extras=("gaze",), workers=1)
    lazy = LazyFaces(folder, extras=("gaze",))
    for shard, entry in enumerate(lazy.index.shards):
        for row in range(min(len(entry.states), 4)):
            lazy.read(shard, row)


# ---- pictures and clips ----------------------------------------------------------------------------------------------


def pictures() -> list[Case]:
    import cv2

    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (40, 30))
    deep = picture.astype(np.uint16) * 257
    made = [("a.png", picture), ("a.jpg", picture), ("a.webp", picture), ("a.png", deep), ("a.png", picture[..., 0])]
    made.append(("a.png", np.dstack([picture, picture[..., 0]])))
    return [{name: cv2.imencode(name[1:], pixels)[1].tobytes()} for name, pixels in made]


def read_picture(folder: Path) -> None:
    from engines.faceset_codec import decode_colour, decode_grey
    from realtime.files import ImageFolderSource
    from realtime.policy import make_card
    from realtime.source import SourceConfig

    path = next(folder.iterdir())
    blob = np.frombuffer(path.read_bytes(), np.uint8)
    for decode, channels in ((decode_colour, 3), (decode_grey, 2)):
        try:
            if decode(blob).ndim != channels:
                raise AssertionError("a picture of odd shape was let in")
        except ValueError:
            pass
    try:
        if make_card((64, 48), path).shape != (48, 64, 3):
            raise AssertionError("a card of another size")
    except PersonacamError:
        pass
    source = ImageFolderSource(folder, SourceConfig(loop=True))
    for _ in range(3):
        frame = source.read()
        if frame is None or frame.size != source.size or frame.pixels.dtype != np.uint8:
            raise AssertionError("a frame that is not what the source says")


def _written(path: Path, codec: str, options: dict[str, str]) -> bytes:
    """Four pictures by another codec or in another container."""
    import av

    from tests.realtime.footage import numbered

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(4):
            picture = av.VideoFrame.from_ndarray(numbered(index), "bgr24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path.read_bytes()


@cache
def clips() -> list[Case]:
    from tests.realtime.footage import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        plain = write_video(path, [0, 3000, 6000, 9000, 12000]).read_bytes()
        turned = write_video(path, [0, 4000, 6000], rotation=90, key_every=1).read_bytes()
        pieces = _written(path, "mpeg4", {"movflags": "frag_keyframe+empty_moov"})
        matroska = _written(Path(folder, "a.mkv"), "libvpx", {})
    lists = (
        b"#EXTM3U\n#EXTINF:1,\nother.mp4\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b"v=0\nm=video 9 RTP/AVP 96\n",
    )
    return [
        *({"a.mp4": data} for data in (plain, turned, pieces)), {"a.mkv": matroska},
        *({"a.mp4": text, "other.mp4": plain} for text in lists),
    ]  # fmt: skip


def read_clip(folder: Path) -> None:
    from realtime.files import VideoFileSource
    from realtime.source import SourceConfig

    path = folder / ("a.mkv" if (folder / "a.mkv").exists() else "a.mp4")
    source = VideoFileSource(path, SourceConfig(loop=True))
    try:
        last = -1
        for _ in range(12):
            frame = source.read()
            if frame is None:
                break
            if frame.size != source.size or frame.timestamp_ns <= last or not frame.pixels.flags.c_contiguous:
                raise AssertionError("a frame that is not what the source says")
            last = frame.timestamp_ns
    finally:
        source.close()
