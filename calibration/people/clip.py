"""A clip of somebody invented: H.264, and beside it the exact truth of every frame as .npz.

FILE.npz, n frames:

    landmarks (n, 68, 2), landmarks_3d (n, 68, 3), landmarks_visible (n, 68), mesh (n, 468, 2)   pixels; decimetres
    pose (n, 3)                                      yaw, pitch, roll in degrees
    gaze (n, 2)                                      radians, to the person's left, up
    expression (n, 52), expression_names             face units 0..1
    light (n, 24), light_names                       directions in world axes, linear RGB
    camera (n, 6), camera_names                      position in decimetres, size and focal length in pixels
    masks, masks_offsets                             the visible face as one PNG after the other: ``read_masks``
    identity_seed, identity, state_seed, renderer_version, style, fps
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from calibration.people.anime import Style
from calibration.people.camera.pinhole import Camera
from calibration.people.camera.sensor import Sensor
from calibration.people.identity import RENDERER_VERSION, Identity
from calibration.people.motion import motion
from calibration.people.props.worn import Props, random_props
from calibration.people.render import Renderer, Shot
from calibration.people.state import State
from calibration.people.truth import (
    CAMERA_COLUMNS,
    camera_row,
    expression_columns,
    expression_row,
    light_columns,
    light_row,
)
from engines.errors import RenderError, SettingsError
from engines.faceset_codec import decode_grey, encode_png, npz_bytes, pack, unpack
from engines.files import write_atomic

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[int, int], None]
"""(frames done, frames in all)."""
_BT601 = 6
"""SMPTE 170M in the tables of ISO/IEC 23091-2."""
_SUFFIXES = (".mp4", ".mkv", ".mov")


@dataclass(frozen=True)
class Clip:
    """What a clip shows. Equal clips are equal pictures."""

    who: Identity
    name: str = ""
    """Of the identity, if it has one."""
    state_seed: int = 0
    frames: int = 300
    width: int = 1280
    height: int = 720
    fps: float = 30.0
    style: Style = "photo"
    supersample: float = 1.5
    props: bool = False
    """Whether something is worn or held through the whole clip; what, the state seed says."""

    def __post_init__(self) -> None:
        if (
            self.frames < 1
            or not 1 <= self.fps <= 240
            or not 1 <= self.supersample <= 4
            or not 0 <= self.state_seed < 1 << 63
        ):
            raise SettingsError(
                "a clip needs frames, a rate of 1 to 240, a supersampling of 1 to 4 and a seed from 0",
                hint="see personacam people clip --help",
            )
        if not (64 <= self.width <= 4096 and 64 <= self.height <= 4096) or self.width % 2 or self.height % 2:
            raise SettingsError(
                f"a clip of {self.width}x{self.height} cannot be encoded", hint="use even sides from 64 to 4096"
            )

    def states(self) -> list[State]:
        """Every frame's state, with a camera of the clip's size."""
        props = _worn(self.state_seed) if self.props else Props()
        moments = motion(self.state_seed, self.frames, self.fps, props=props)
        return [replace(state, camera=_resized(state.camera, self.width, self.height)) for state in moments]


def _worn(seed: int) -> Props:
    """The first of a seed's draws that is not nothing."""
    draws = (random_props(np.random.default_rng([seed, 106, k])) for k in itertools.count())
    return next(props for props in draws if props != Props())


def _resized(camera: Camera, width: int, height: int) -> Camera:
    """The same view, as high, on another number of pixels."""
    return replace(camera, width=width, height=height, focal_px=camera.focal_px * height / camera.height)


def shoot_frames(
    renderer: Renderer,
    who: Identity,
    states: Iterable[State],
    *,
    camera: Camera | None = None,
    sensor: Sensor | None = None,
    style: Style = "photo",
    supersample: float = 1.5,
) -> Iterator[Shot]:
    """Whole frames of ``who`` in one state after the other; ``camera`` and ``sensor`` take the place of the states'."""
    for state in states:
        yield renderer.render(who, state, style=style, camera=camera, supersample=supersample, sensor=sensor)


def write_video(out: Path, pictures: Iterable[NDArray[np.uint8]], fps: float, *, crf: int = 21) -> int:
    """Encode (H, W, 3) BGR pictures of one size as H.264 and return how many there were.

    Raises RenderError when there is no encoder or the file cannot be written; what is there then is no whole clip.
    """
    count, stream = 0, None
    try:
        with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
            for picture in pictures:
                if stream is None:
                    stream = _h264(container, picture.shape[1], picture.shape[0], fps, crf)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
                count += 1
            if stream is not None:
                container.mux(stream.encode())
    except (av.FFmpegError, OSError) as error:
        raise RenderError(f"cannot write {out}: {error}", hint="check the folder and the space left") from error
    return count


def _h264(container: Any, width: int, height: int, fps: float, crf: int) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {"crf": str(crf), "preset": "slow"}
    # PyAV converts BGR by BT.601 unless told; said in the stream, every player undoes just that.
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace = _BT601, _BT601, _BT601
    return stream


def write_clip(renderer: Renderer, clip: Clip, out: Path, *, progress: Progress | None = None) -> Path:
    """Render ``clip`` into ``out`` and its truth beside it; return the truth's path.

    Both names appear when everything is done; an interruption leaves neither. Raises SettingsError for a suffix that is
    no video's, RenderError when writing fails.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise SettingsError(f"{out} is no video", hint=f"use one of {', '.join(_SUFFIXES)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RenderError(f"cannot write {out}: {error}", hint="choose another folder") from error
    states, shots = clip.states(), list[_Kept]()
    part, truth = out.with_name(f".{out.stem}.part{out.suffix}"), out.with_suffix(".npz")

    def pictures() -> Iterator[NDArray[np.uint8]]:
        frames = shoot_frames(renderer, clip.who, states, style=clip.style, supersample=clip.supersample)
        for shot in frames:
            shots.append(_Kept.of(shot))
            yield shot.pixels
            if progress:
                progress(len(shots), clip.frames)

    try:
        write_video(part, pictures(), clip.fps)
        write_atomic(truth, npz_bytes(_truth(clip, states, shots)))
        part.replace(out)
    except OSError as error:
        raise RenderError(f"cannot write {out}: {error}", hint="check the folder and the space left") from error
    finally:
        part.unlink(missing_ok=True)
    return truth


@dataclass(frozen=True)
class _Kept:
    """What remains of a shot once its picture is encoded: 10 kB instead of megabytes."""

    points: Arrays
    mask: bytes

    @staticmethod
    def of(shot: Shot) -> _Kept:
        names = ("landmarks", "landmarks_3d", "landmarks_visible", "mesh")
        return _Kept({name: getattr(shot, name) for name in names}, encode_png(shot.mask))


def _truth(clip: Clip, states: Sequence[State], shots: Sequence[_Kept]) -> Arrays:
    points: Arrays = {name: np.stack([s.points[name] for s in shots]) for name in shots[0].points}
    return (
        points
        | pack("masks", [s.mask for s in shots])
        | {
            "pose": np.array([(s.yaw, s.pitch, s.roll) for s in states], np.float32),
            "gaze": np.array([s.gaze for s in states], np.float32),
            "expression": np.stack([expression_row(s.expression) for s in states]),
            "expression_names": np.array(expression_columns()),
            "light": np.stack([light_row(s.light) for s in states]),
            "light_names": np.array(light_columns()),
            "camera": np.stack([camera_row(s.camera) for s in states]),
            "camera_names": np.array(CAMERA_COLUMNS),
            "identity_seed": np.array(clip.who.seed),
            "identity": np.array(clip.name),
            "state_seed": np.array(clip.state_seed),
            "renderer_version": np.array(RENDERER_VERSION),
            "style": np.array(clip.style),
            "fps": np.array(clip.fps),
        }
    )


def read_masks(truth: Mapping[str, NDArray[Any]]) -> Iterator[NDArray[np.uint8]]:
    """(H, W) masks, 0..255, of a clip's loaded .npz, frame by frame. Raises ValueError for damaged ones."""
    return (decode_grey(blob) for blob in unpack("masks", truth))
