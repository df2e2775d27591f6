"""A camera's knobs: which there are, what they stand at, and turning the few that a user asks for.

Layouts of ``v4l2_queryctrl``, ``v4l2_querymenu`` and ``v4l2_control`` in <linux/videodev2.h>, numbers of
<linux/v4l2-controls.h>. Settings stay in the camera until it is unplugged, for every program.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from realtime.v4l2 import ask, opened, request, text

VIDIOC_G_CTRL = request("rw", 27, 8)
VIDIOC_S_CTRL = request("rw", 28, 8)
VIDIOC_QUERYCTRL = request("rw", 36, 68)
VIDIOC_QUERYMENU = request("rw", 37, 44)

POWER_LINE = 0x00980918
EXPOSURE_AUTO = 0x009A0901
EXPOSURE_ABSOLUTE = 0x009A0902
"""In units of 100 microseconds."""
EXPOSURE_PRIORITY = 0x009A0903
"""1: in dim light the camera may lower its rate to expose for longer."""
FOCUS_ABSOLUTE = 0x009A090A
FOCUS_AUTO = 0x009A090C

_NEXT = 0x80000000
_DISABLED, _READ_ONLY = 0x0001, 0x0004
_INTEGER_MENU = 9
_KINDS: dict[int, Literal["integer", "boolean", "menu"]] = {
    1: "integer",
    2: "boolean",
    3: "menu",
    _INTEGER_MENU: "menu",
}
_CONTROLS = 256
_MENU_ENTRIES = 64
_MANUAL_EXPOSURE, _SHUTTER_PRIORITY = 1, 2
_AUTO_EXPOSURES = (3, 0)
"""Aperture priority, which webcams mean by automatic, then automatic."""
_POWER_LINES = {"off": 0, "50": 1, "60": 2, "auto": 3}

PowerLine = Literal["off", "50", "60", "auto"]


@dataclass(frozen=True, slots=True)
class Control:
    """One knob."""

    id: int
    name: str
    kind: Literal["integer", "boolean", "menu"]
    minimum: int
    maximum: int
    step: int
    default: int
    value: int | None = None
    """Where it stands; None when it cannot be read."""
    menu: tuple[tuple[int, str], ...] = ()
    """Of kind menu: (value, what it means)."""
    writable: bool = True


@dataclass(frozen=True, slots=True)
class ControlWishes:
    """What a user wants of the camera itself. None leaves a knob as it is."""

    power_line: PowerLine | None = None
    """Lamps flicker at the mains' frequency; the camera fits its exposure to it."""
    exposure: float | Literal["auto"] | None = None
    """Milliseconds of a frame."""
    focus: int | Literal["auto"] | None = None
    """In the camera's own units; most count from far to near."""
    steady_rate: bool | None = None
    """True: never lower the rate in dim light; the picture gets darker instead."""

    def __bool__(self) -> bool:
        return self != ControlWishes()


def list_controls(path: str) -> tuple[Control, ...]:
    """Every knob of the device at ``path`` that is a number, a switch or a menu. Empty when it cannot be asked."""
    found = []
    try:
        with opened(path) as device:
            answer = bytearray(68)
            struct.pack_into("=I", answer, 0, _NEXT)
            for _ in range(_CONTROLS):
                if not ask(device, VIDIOC_QUERYCTRL, answer):
                    break
                control = parse_control(answer)
                number, kind = struct.unpack_from("=II", answer)
                if control is not None:
                    found.append(_completed(device, control, numbers=kind == _INTEGER_MENU))
                answer = bytearray(68)
                struct.pack_into("=I", answer, 0, number | _NEXT)
    except OSError:
        return ()
    return tuple(found)


def parse_control(answer: bytes | bytearray) -> Control | None:
    """Read a ``struct v4l2_queryctrl`` (68 bytes). None for headings, buttons, strings and what is switched off."""
    number, kind, name, minimum, maximum, step, default, flags = struct.unpack_from("=II32siiiiI", answer)
    if kind not in _KINDS or flags & _DISABLED:
        return None
    return Control(number, text(name), _KINDS[kind], minimum, maximum, step, default, writable=not flags & _READ_ONLY)


def _completed(device: int, control: Control, *, numbers: bool) -> Control:
    """The same with its value and its menu, whose entries are names or ``numbers``."""
    answer = bytearray(struct.pack("=Ii", control.id, 0))
    value = struct.unpack_from("=i", answer, 4)[0] if ask(device, VIDIOC_G_CTRL, answer) else None
    menu = []
    if control.kind == "menu":
        for index in range(max(control.minimum, 0), min(control.maximum, _MENU_ENTRIES) + 1):
            entry = bytearray(44)
            struct.pack_into("=II", entry, 0, control.id, index)
            if ask(device, VIDIOC_QUERYMENU, entry):  # menus may have gaps
                name = str(struct.unpack_from("=q", entry, 8)[0]) if numbers else text(bytes(entry[8:40]))
                menu.append((index, name))
    return Control(
        control.id, control.name, control.kind, control.minimum, control.maximum, control.step, control.default,
        value, tuple(menu), control.writable,
    )  # fmt: skip


def plan(controls: Mapping[int, Control], wishes: ControlWishes) -> tuple[list[tuple[int, int]], list[str]]:
    """Turn wishes into (control id, value) in the order in which they must be set, and into wishes that cannot be met.

    A mode comes before the number that it frees: a camera refuses an exposure while it chooses that by itself.
    """
    steps: list[tuple[int, int]] = []
    faults: list[str] = []
    if wishes.power_line is not None:
        _choose(
            controls,
            POWER_LINE,
            (_POWER_LINES[wishes.power_line],),
            f"mains frequency {wishes.power_line}",
            steps,
            faults,
        )
    if wishes.exposure == "auto":
        _choose(controls, EXPOSURE_AUTO, _AUTO_EXPOSURES, "automatic exposure", steps, faults)
    elif wishes.exposure is not None and _choose(
        controls, EXPOSURE_AUTO, (_MANUAL_EXPOSURE, _SHUTTER_PRIORITY), "manual exposure", steps, faults
    ):
        _number(controls, EXPOSURE_ABSOLUTE, round(wishes.exposure * 10.0), "the exposure", steps, faults)
    if wishes.steady_rate is not None:
        what = "steady rate" if wishes.steady_rate else "slower rate in dim light"
        _choose(controls, EXPOSURE_PRIORITY, (int(not wishes.steady_rate),), what, steps, faults)
    if wishes.focus == "auto":
        _choose(controls, FOCUS_AUTO, (1,), "automatic focus", steps, faults)
    elif wishes.focus is not None:
        if FOCUS_AUTO in controls:
            _choose(controls, FOCUS_AUTO, (0,), "manual focus", steps, faults)
        _number(controls, FOCUS_ABSOLUTE, wishes.focus, "the focus", steps, faults)
    return steps, faults


def _choose(
    controls: Mapping[int, Control],
    number: int,
    values: tuple[int, ...],
    what: str,
    steps: list[tuple[int, int]],
    faults: list[str],
) -> bool:
    """The first of ``values`` that a switch or menu has. False, with a fault noted, when there is none."""
    control = controls.get(number)
    if control is None or not control.writable:
        faults.append(f"this camera has no {what}")
        return False
    offered = [value for value, _ in control.menu] or range(control.minimum, control.maximum + 1)
    for value in values:
        if value in offered:
            steps.append((number, value))
            return True
    faults.append(
        f"this camera has no {what}" + (f", only {', '.join(n for _, n in control.menu)}" if control.menu else "")
    )
    return False


def _number(
    controls: Mapping[int, Control], number: int, value: int, what: str, steps: list[tuple[int, int]], faults: list[str]
) -> None:
    """A number within what the camera takes, on its grid."""
    control = controls.get(number)
    if control is None or not control.writable:
        faults.append(f"{what} of this camera cannot be set")
        return
    step = max(control.step, 1)
    nearest = control.minimum + round((value - control.minimum) / step) * step
    inside = min(max(nearest, control.minimum), control.maximum)
    if not control.minimum <= value <= control.maximum:
        scale = 10.0 if number == EXPOSURE_ABSOLUTE else 1.0
        faults.append(f"{what} goes from {control.minimum / scale:g} to {control.maximum / scale:g}")
    steps.append((number, inside))


def apply(path: str | None, wishes: ControlWishes) -> list[str]:
    """Turn the knobs of the camera at ``path``. Returns what did not work, as lines for people; nothing is raised.

    ``path`` None: the camera's device is not known, as on every system but Linux.
    """
    if not wishes:
        return []
    if path is None:
        return [f"camera controls are not supported on {sys.platform}; use the camera maker's program"]
    controls = {control.id: control for control in list_controls(path)}
    steps, faults = plan(controls, wishes)
    try:
        with opened(path) as device:
            for number, value in steps:
                if not ask(device, VIDIOC_S_CTRL, bytearray(struct.pack("=Ii", number, value))):
                    faults.append(f"the camera refused {controls[number].name} = {value}")
    except OSError as error:
        faults.append(f"its controls cannot be set: {error.strerror}")
    return faults


def slows_in_dim_light(path: str | None) -> bool | None:
    """Whether the camera may lower its rate to expose for longer. None when it does not say."""
    if path is None:
        return None
    controls = {control.id: control for control in list_controls(path)}
    priority = controls.get(EXPOSURE_PRIORITY)
    exposure = controls.get(EXPOSURE_AUTO)
    if exposure is not None and exposure.value in (_MANUAL_EXPOSURE, _SHUTTER_PRIORITY):
        return False
    return None if priority is None or priority.value is None else priority.value == 1
