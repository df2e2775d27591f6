"""Videos for bench_mark: rendered people before a webcam, swapped by the shipped pipeline, without the mark.

Odd ones are hand-held: the camera moves by a few centimetres, with a tremor, and the room shifts behind the person.
Every clip is made once and kept; frames are stored nearly lossless (x264, CRF 5), and beside them where the swap is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("LP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.consent_gates import shown_only
from engines import geometry
from engines.mesh_subset import MESH_SUBSET, crop_points
from engines.persona import read_persona
from engines.types import U8, AlignedFace
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.config import Settings
from realtime.detect import MeshDetector
from realtime.files import VideoFileSource
from realtime.session import demo_clip, open_swap_runtime, persona_store
from realtime.source import SourceConfig
from realtime.swap import Swapper
from realtime.track import Tracker, TrackerConfig

FRAMES, FPS = 90, 30
DEMO_STARTS = (0, 105, 210)
PERSONAS = ("vera", "kofi", "finn", "noor", "jun", "amara", "greta", "marit")
_IDENTITY, _STATE = 9100, 9200
_COVERED = 60
"""Softened mask, of 255, above which a pixel counts as face."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Footage:
    """One clip, ready to be marked."""

    name: str
    hand_held: bool
    frames: list[U8]
    faces: list[NDArray[np.bool_]]
    """(H, W) where the swap is."""


def prepare(folder: Path, wearers: int, say: Say) -> list[Path]:
    """Render and swap whatever is not there yet; the swapped clips."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(demo_clip(), start, f"demo{start}") for start in DEMO_STARTS]
    jobs += [(_wearer(folder, k, say), 0, f"wearer{k}") for k in range(wearers)]
    made = []
    for number, (clip, start, name) in enumerate(jobs):
        out = folder / f"{name}-{PERSONAS[number % len(PERSONAS)]}.mkv"
        if not out.exists():
            say(f"swapping {out.stem}")
            _swap(clip, start, PERSONAS[number % len(PERSONAS)], out)
        made.append(out)
    return made


def load(path: Path) -> Footage:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="bgr24") for f in container.decode(video=0)]
    height, width = frames[0].shape[:2]
    packed = np.load(path.with_suffix(".npz"))["faces"]
    faces = [np.unpackbits(row, count=height * width).reshape(height, width).astype(bool) for row in packed]
    name = path.stem.split("-")[0]
    return Footage(path.stem, name.startswith("wearer") and int(name[6:]) % 2 == 1, frames, faces)


def write(out: Path, pictures: Iterator[U8] | list[U8], crf: int, preset: str = "veryfast") -> None:
    """H.264, or nothing."""
    part, stream = out.with_name(f".part-{out.name}"), None
    with av.open(str(part), "w") as container:
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("libx264", rate=FPS)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf), "preset": preset, "threads": "1"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        if stream is not None:
            container.mux(stream.encode())
    part.replace(out)


def _wearer(folder: Path, k: int, say: Say) -> Path:
    from calibration.people.clip import Clip, shoot_frames
    from calibration.people.identity import random_identity
    from calibration.people.render import Renderer

    out = folder / f"wearer{k}.mp4"
    if out.exists():
        return out
    say(f"rendering wearer {k}: {FRAMES} frames, about a second each")
    clip = Clip(random_identity(_IDENTITY + k), state_seed=_STATE + k, frames=FRAMES, supersample=1.0)
    states = clip.states()
    if k % 2:
        path = _hand_held(_STATE + k)
        states = [
            replace(state, camera=replace(state.camera, position=tuple(np.add(state.camera.position, offset).tolist())))
            for state, offset in zip(states, path, strict=True)
        ]
    with Renderer() as renderer:
        shots = shoot_frames(renderer, clip.who, states, supersample=1.0)
        write(out, (shot.pixels for shot in shots), crf=12)
    return out


def _hand_held(seed: int) -> NDArray[np.float64]:
    """(FRAMES, 3) decimetres: drift over a third of a second, and a tremor."""
    from scipy.ndimage import gaussian_filter1d

    rng = np.random.default_rng([seed, 301])

    def curve(sigma: int, most: float) -> NDArray[np.float64]:
        smooth = gaussian_filter1d(rng.standard_normal(FRAMES + 8 * sigma), sigma)[4 * sigma : 4 * sigma + FRAMES]
        return np.asarray(most * smooth / np.abs(smooth).max())

    return np.stack([curve(9, 0.35) + curve(3, 0.04), curve(9, 0.25) + curve(3, 0.04), curve(14, 0.8)], axis=1)


def _swap(clip: Path, start: int, name: str, out: Path) -> None:
    """The pipeline's stages on FRAMES frames from ``start`` on; frames without a swap are left out."""
    persona = read_persona(persona_store().find(name, None), admit=shown_only)
    runtime = open_swap_runtime(persona, Settings(persona=name))
    swapper = Swapper(persona, runtime)
    blender, tracker = Blender(BlendConfig(), swapper.swap_size), Tracker(MeshDetector.load(), TrackerConfig())
    cropper, side = kernels.FaceCropper(), swapper.crop_size
    crop, points = np.zeros((side, side, 3), np.uint8), np.zeros((len(MESH_SUBSET), 2), np.float32)
    source, faces = VideoFileSource(clip, SourceConfig()), []

    def pictures() -> Iterator[U8]:
        while (frame := source.read()) is not None and frame.index < start + FRAMES:
            found = tracker.update(frame)
            if frame.index < start or found is None:
                continue
            to_frame = tracker.align(found, side, frame.timestamp_ns / 1e9)
            features = geometry.features(found.landmarks, found.layout, to_frame)
            cropper(frame.pixels, to_frame, crop)
            mesh = crop_points(found.landmarks, to_frame, side, out=points)
            swap = swapper.swap(AlignedFace(frame.index, crop, to_frame, features, mesh))
            picture = frame.pixels.copy()
            if blender.paste(picture, swap, 1 / FPS) <= 0:
                continue
            mask = blender.soften(swap.mask).astype(np.uint8)
            back = geometry.rescale_crop(to_frame, side, swapper.swap_size)
            seen = cv2.warpAffine(mask, back, (picture.shape[1], picture.shape[0]))
            faces.append(np.packbits(seen > _COVERED))
            yield picture

    write(out, pictures(), crf=5, preset="ultrafast")
    np.savez(out.with_suffix(".npz"), faces=np.array(faces))
    source.close()
    runtime.close()
