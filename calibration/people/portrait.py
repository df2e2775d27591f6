"""A person's picture for galleries: head and shoulders, a friendly light, hair included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.people.anime import Style
from calibration.people.camera.lighting import Light
from calibration.people.camera.pinhole import Camera
from calibration.people.camera.room import Room
from calibration.people.camera.sensor import Sensor
from calibration.people.head.shape import head_model
from calibration.people.identity import Identity
from calibration.people.render import Renderer
from calibration.people.state import State

FRIENDLY = State(
    yaw=10.0,
    pitch=2.0,
    expression={"mouthSmileLeft": 0.45, "mouthSmileRight": 0.42, "cheekSquintLeft": 0.2, "cheekSquintRight": 0.2},
    gaze=(-0.06, 0.0),
    light=Light(key_direction=(0.45, 0.5, 0.75), key=(1.25, 1.2, 1.12)),
    room=Room(5),
)


def portrait(renderer: Renderer, who: Identity, size: int = 384, style: Style = "photo") -> NDArray[np.uint8]:
    """(size, size, 3) BGR."""
    actor = renderer.actor(who, style)
    try:
        # People differ in height: the camera looks at this one's eyes from just below the hairline.
        face = actor.pose(FRIENDLY).skin[head_model().fine_index["landmarks"]]
        height = float(face[:, 1].mean()) + 0.2
        camera = Camera(position=(0.0, height, 15.0), width=size, height=size, focal_px=4.4 * size)
        return renderer.shoot(actor, FRIENDLY, camera, sensor=Sensor(noise=0.003, codec=None)).pixels
    finally:
        actor.close()
