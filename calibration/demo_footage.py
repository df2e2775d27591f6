"""The demo's clip: an invented wearer who talks and looks around, and the true swap of each shipped persona.

    python -m calibration.demo_footage --out realtime/demo

writes ``wearer.mp4`` (10 s, 720p, H.264) and ``wearer.npz``, its truth: per frame pose, 68 landmarks and the shown
states' seed; for every fifth frame and each persona the true render in the wearer's state, as an aligned crop with its
mask, which is what ``personacam demo --score`` compares with. The wearer and the motion are in no training set.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from calibration.people.camera import Camera
from calibration.people.identity import cast
from calibration.people.picture import Sensor
from calibration.people.render import Renderer
from calibration.people.state import State, motion

WEARER = "tomo"
MOTION_SEED = 4242
FRAMES, FPS = 300, 30
TRUTH_EVERY = 5
TRUTH_SIZE = 128
CAMERA = Camera(position=(0.0, 7.15, 15.0), focal_px=3000.0)


@dataclass(frozen=True)
class PersonaTruth:
    """True renders of one persona in the demo's states."""

    frames: NDArray[np.int64]
    """(n,) frame numbers."""
    crops: NDArray[np.uint8]
    """(n, 128, 128, 3) BGR, aligned by the persona's own true landmarks."""
    masks: NDArray[np.uint8]
    """(n, 128, 128) 0..255."""


def shoot_wearer(renderer: Renderer, states: list[State], out: Path, crf: int = 21) -> dict[str, NDArray[np.float32]]:
    """Render the clip into ``out`` and return its truth."""
    actor = renderer.actor(cast()[WEARER])
    landmarks = []
    with av.open(str(out), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "slow"}
        for state in track(states, "wearer"):
            shot = renderer.shoot(actor, state, CAMERA, supersample=1.5, sensor=Sensor(noise=0.006))
            landmarks.append(shot.landmarks)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shot.pixels, format="bgr24")))
        container.mux(stream.encode())
    actor.close()
    pose = [(s.yaw, s.pitch, s.roll) for s in states]
    return {"landmarks": np.stack(landmarks).astype(np.float32), "pose": np.array(pose, np.float32)}


def shoot_truth(renderer: Renderer, states: list[State], persona: str) -> PersonaTruth:
    """The persona itself in every fifth state."""
    actor = renderer.actor(cast()[persona])
    frames = np.arange(0, len(states), TRUTH_EVERY)
    shots = [
        renderer.shoot(
            actor, states[i], CAMERA, crop_size=TRUTH_SIZE, hair=False,
            sensor=Sensor(noise=0.0, softness_px=0.35, jpeg_quality=None),
        )
        for i in track(frames, persona)
    ]  # fmt: skip
    actor.close()
    return PersonaTruth(frames, np.stack([s.pixels for s in shots]), np.stack([s.mask for s in shots]))


def pack_truth(truth: PersonaTruth, prefix: str) -> dict[str, NDArray[np.uint8] | NDArray[np.int64]]:
    """Arrays for the .npz: crops as one WebP strip, masks as one PNG strip."""
    strip = truth.crops.reshape(-1, TRUTH_SIZE, 3)
    _, crops = cv2.imencode(".webp", strip, [cv2.IMWRITE_WEBP_QUALITY, 96])
    _, masks = cv2.imencode(".png", truth.masks.reshape(-1, TRUTH_SIZE))
    return {f"{prefix}_frames": truth.frames, f"{prefix}_crops": crops.ravel(), f"{prefix}_masks": masks.ravel()}


def load_truth(path: Path, persona: str) -> PersonaTruth | None:
    """Read back what ``pack_truth`` wrote; None when the file has no truth for this persona."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
        if f"{persona}_frames" not in data:
            return None
        frames = data[f"{persona}_frames"]
        crops = np.asarray(cv2.imdecode(data[f"{persona}_crops"], cv2.IMREAD_COLOR), np.uint8)
        masks = np.asarray(cv2.imdecode(data[f"{persona}_masks"], cv2.IMREAD_GRAYSCALE), np.uint8)
    size = TRUTH_SIZE
    return PersonaTruth(frames, crops.reshape(-1, size, size, 3), masks.reshape(-1, size, size))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("realtime/demo"), help="folder for wearer.mp4 and wearer.npz")
    parser.add_argument("--personas", nargs="*", default=["vera", "kofi"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    states = motion(MOTION_SEED, FRAMES, FPS)
    with Renderer() as renderer:
        arrays: dict[str, NDArray[np.generic]] = dict(shoot_wearer(renderer, states, arguments.out / "wearer.mp4"))
        for persona in arguments.personas:
            arrays |= pack_truth(shoot_truth(renderer, states, persona), persona)
    np.savez(arguments.out / "wearer.npz", **arrays, motion_seed=np.array(MOTION_SEED))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
