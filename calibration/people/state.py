"""What one frame shows: pose, expression, gaze, light, room, props, camera. The same state fits every identity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.people.camera.lighting import Light, random_light
from calibration.people.camera.pinhole import Camera
from calibration.people.camera.room import Room, random_room
from calibration.people.camera.sensor import Sensor, random_sensor
from calibration.people.face.expression import look, random_expression
from calibration.people.props.worn import Props, random_props

Vector = tuple[float, float, float]
FACE_CENTRE = (0.0, 7.05, 1.0)
"""Of everybody's face, in decimetres: where a camera aims."""
FACE_HEIGHT_DM = 1.9
"""From the chin to the hairline."""
NEAREST_DM, FARTHEST_DM = 3.5, 20.0
"""Of the camera from the face."""
_POSE, _FACE, _LIGHT, _PROPS, _CAMERA, _SENSOR, _ROOM, _GAZE = range(8)
"""Every aspect is drawn from a stream of its own: a new kind of hat changes no pose."""


@dataclass(frozen=True)
class State:
    """One moment. Angles are degrees: yaw towards the person's left, pitch up, roll to the person's left shoulder."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: Vector = (0.0, 0.0, 0.0)
    """Of the head, in decimetres."""
    expression: dict[str, float] = field(default_factory=dict)
    """ARKit names, 0..1."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Of the eyes in the head, radians: to the person's left, up."""
    light: Light = field(default_factory=Light)
    room: Room = field(default_factory=Room)
    props: Props = field(default_factory=Props)
    camera: Camera = field(default_factory=Camera)
    sensor: Sensor = field(default_factory=Sensor)
    noise_seed: int = 0

    def rotation(self) -> Rotation:
        """Head rotation in world axes."""
        return Rotation.from_euler("YXZ", [self.yaw, -self.pitch, self.roll], degrees=True)


def _random_pose(rng: np.random.Generator) -> tuple[float, float, float]:
    """Yaw to 70, pitch to 30, roll to 25 degrees; seven of ten within 30 of the front, one of ten beyond 50."""
    kind, side = rng.random(), float(rng.choice([-1, 1]))
    if kind < 0.70:
        yaw = float(np.clip(rng.normal(0, 14), -30, 30))
    elif kind < 0.90:
        yaw = side * float(rng.uniform(30, 50))
    else:
        yaw = side * float(rng.uniform(50, 70))
    wide = 1.9 if rng.random() < 0.15 else 1.0
    pitch = float(np.clip(rng.normal(-2, 7.5 * wide), -30, 30))
    roll = float(np.clip(rng.normal(0, 5.5 * wide) - 0.06 * yaw, -25, 25))
    return yaw, pitch, roll


def _random_gaze(rng: np.random.Generator, yaw: float, pitch: float) -> tuple[float, float]:
    """At the camera or the screen against the head's turn; ahead of it; or anywhere."""
    turned, raised = np.radians(yaw), np.radians(pitch)
    kind = rng.random()
    if kind < 0.5:  # the eyes stay on what is in front
        left, up = -0.7 * turned + rng.normal(0, 0.07), -0.6 * raised + rng.normal(-0.02, 0.05)
    elif kind < 0.75:  # eyes lead the head
        left, up = 0.35 * turned + np.sign(turned) * rng.uniform(0, 0.25), 0.3 * raised + rng.normal(0, 0.08)
    else:
        left, up = rng.normal(0, 0.25), rng.normal(-0.03, 0.12)
    return float(np.clip(left, -0.55, 0.55)), float(np.clip(up, -0.4, 0.32))


def _random_camera(rng: np.random.Generator) -> Camera:
    """A webcam near or far, sometimes a longer lens; the face is 8 to 60 % as high as the picture and inside of it."""
    width, height = ((1280, 720), (1920, 1080), (640, 480))[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
    lens = rng.normal(1.25, 0.15) if rng.random() < 0.72 else rng.uniform(1.6, 3.6)  # focal length over height
    share = float(np.clip(np.exp(rng.normal(np.log(0.31), 0.45)), 0.08, 0.60))
    distance = float(np.clip(FACE_HEIGHT_DM * max(lens, 0.9) / share, NEAREST_DM, FARTHEST_DM))
    focal = share * distance / FACE_HEIGHT_DM
    # Room beside the face for its turns, its hair and its shift.
    right = rng.uniform(-1, 1) * rng.random() * max(width / height / 2 - 0.85 * share, 0.0)
    up = np.clip(rng.normal(0.03, 0.06), -1, 1) * max(1 - 1.5 * share, 0.0)
    x, y, z = FACE_CENTRE
    position = (x - float(right) * distance / focal, y - float(up) * distance / focal, z + distance)
    return Camera(position, width, height, float(focal * height))


def random_state(seed: int, *, turn: float = 1.0, props: bool = True) -> State:
    """A seeded moment of a stream: any pose (times ``turn``), expression, light, room, camera and its faults.

    ``props=False`` leaves out what is worn or held and changes nothing else.
    """
    streams = [np.random.default_rng([seed, 101, part]) for part in range(8)]
    yaw, pitch, roll = (turn * angle for angle in _random_pose(streams[_POSE]))
    gaze = _random_gaze(streams[_GAZE], yaw, pitch)
    expression = random_expression(streams[_FACE])
    look(expression, gaze)
    kind, light = random_light(streams[_LIGHT])
    shift = streams[_POSE].normal(0, 1, 3).clip(-2, 2) * [0.14, 0.07, 0.18]
    return State(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        shift=(float(shift[0]), float(shift[1]), float(shift[2])),
        expression=expression,
        gaze=gaze,
        light=light,
        room=random_room(streams[_ROOM], light, kind),
        props=random_props(streams[_PROPS]) if props else Props(),
        camera=_random_camera(streams[_CAMERA]),
        sensor=random_sensor(streams[_SENSOR], light, kind),
        noise_seed=int(streams[_SENSOR].integers(1 << 30)),
    )
