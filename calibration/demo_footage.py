"""The demo's clip: an invented wearer who talks and looks around, and the true swap of each shipped persona.

    python -m calibration.demo_footage --out realtime/demo

writes ``wearer.mp4`` (10 s, 720p, H.264) and ``wearer.npz``, its truth: per frame pose and 68 landmarks; for every
fifth frame and each persona the true render in the wearer's state, as an aligned crop with its mask, which is what
``personacam demo --score`` compares with. The wearer and the motion are in no training set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from calibration.demo_truth import TRUTH_SIZE, pack_truth
from calibration.people.camera.pinhole import Camera
from calibration.people.camera.sensor import CLEAN, Sensor
from calibration.people.clip import shoot_frames, write_video
from calibration.people.identity import cast
from calibration.people.motion import motion
from calibration.people.render import Renderer
from calibration.people.state import State
from calibration.plan import WEARER

MOTION_SEED = 4242
FRAMES, FPS = 300, 30
TRUTH_EVERY = 5
CAMERA = Camera(position=(0.0, 7.15, 15.0), focal_px=3000.0)


def shoot_wearer(renderer: Renderer, states: list[State], out: Path) -> dict[str, NDArray[np.float32]]:
    """Render the clip into ``out`` and return its truth."""
    landmarks: list[NDArray[np.float32]] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        who, sensor = cast()[WEARER], Sensor(noise=0.006)
        for shot in shoot_frames(renderer, who, track(states, "wearer"), camera=CAMERA, sensor=sensor):
            landmarks.append(shot.landmarks)
            yield shot.pixels

    write_video(out, pictures(), FPS)
    pose = [(s.yaw, s.pitch, s.roll) for s in states]
    return {"landmarks": np.stack(landmarks).astype(np.float32), "pose": np.array(pose, np.float32)}


def shoot_truth(
    renderer: Renderer, states: list[State], persona: str
) -> dict[str, NDArray[np.uint8] | NDArray[np.int64]]:
    """The persona itself in every fifth state, packed for the .npz."""
    actor = renderer.actor(cast()[persona])
    frames = np.arange(0, len(states), TRUTH_EVERY)
    shots = [
        renderer.shoot(actor, states[i], CAMERA, crop_size=TRUTH_SIZE, hair=False, sensor=CLEAN)
        for i in track(frames, persona)
    ]
    actor.close()
    return pack_truth(frames, np.stack([s.pixels for s in shots]), np.stack([s.mask for s in shots]), persona)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("realtime/demo"), help="folder for wearer.mp4 and wearer.npz")
    parser.add_argument("--personas", nargs="*", default=["vera", "kofi"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clip, truth = arguments.out / "wearer.mp4", arguments.out / "wearer.npz"
    states = motion(MOTION_SEED, FRAMES, FPS)
    with Renderer() as renderer:
        part = clip.with_name("wearer.part.mp4")
        arrays: dict[str, NDArray[np.generic]] = dict(shoot_wearer(renderer, states, part))
        for persona in arguments.personas:
            arrays |= shoot_truth(renderer, states, persona)
    np.savez(truth, **arrays, motion_seed=np.array(MOTION_SEED))  # type: ignore[arg-type]
    part.replace(clip)


if __name__ == "__main__":
    main()
