"""What the live process and its companion say to each other, and what a page may say: typed, and small.

    page -> companion -> live process     a ``Command``: one JSON object of at most MAX_COMMAND_BYTES
    live process -> companion -> page     a ``LiveState``, a few times a second, the newest one wins

A command is checked where it comes in (``parse_command``) and again where it takes effect; whether a value makes sense
is decided there by ``Settings`` alone. Imports pydantic and nothing else: the companion starts quickly.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

MAX_COMMAND_BYTES = 2048
"""Of one message of a page; the longest that the page itself sends has about 150."""
MAX_LINE_BYTES = 256 << 10
"""Of one line between the two processes."""
LOG_LINES = 12
"""Newest lines for people that a state carries."""

Knob = Literal[
    "strength",
    "morph",
    "erode",
    "feather",
    "colour_strength",
    "sharpen",
    "smoothing",
    "label_position",
    "mirror",
    "mic_delay_ms",
]
"""Options of a run (``config.Settings``) that may be changed while it runs."""
Phase = Literal["running", "standby", "veiled", "ended"]
Value = bool | float | str | None
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Veil(_Message):
    """Cover every picture, from the next one on; or no longer."""

    do: Literal["veil"]
    on: bool


class Standby(_Message):
    """Stop: a still picture goes out and nothing is computed. Start: the stream goes on."""

    do: Literal["standby"]
    on: bool


class WearPersona(_Message):
    """Another persona, in the tier that is worn if it comes in it; ``name`` None: the next one of the gallery."""

    do: Literal["persona"]
    name: Name | None = None


class Prepare(_Message):
    """Load a persona that will perhaps be chosen: the pointer is on it."""

    do: Literal["prepare"]
    name: Name


class WearTier(_Message):
    """The same persona with a larger or smaller network."""

    do: Literal["tier"]
    tier: Literal["tiny", "small", "base"]


class UseRuntime(_Message):
    """Another runtime for the persona's network."""

    do: Literal["runtime"]
    runtime: Literal["auto", "tensorrt", "tensorrt-rtx", "openvino", "onnxruntime"]


class ChoosePolicy(_Message):
    """What leaves when there is no swap. ``passthrough`` only waits for a ``Confirm``."""

    do: Literal["policy"]
    policy: Literal["veil", "hold", "card", "passthrough"]


class Confirm(_Message):
    """Yes to what ``LiveState.confirm`` asks, by its number; or no."""

    do: Literal["confirm"]
    number: int
    yes: bool = True


class Adjust(_Message):
    """Other values of some options."""

    do: Literal["adjust"]
    changes: dict[Knob, Value] = Field(min_length=1, max_length=12)

    @field_validator("changes")
    @classmethod
    def _finite(cls, changes: dict[Knob, Value]) -> dict[Knob, Value]:
        for value in changes.values():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number is not finite")
            if isinstance(value, str) and len(value) > 40:
                raise ValueError("a text is too long")
        return changes


class Record(_Message):
    """Begin or end a recording."""

    do: Literal["record"]
    on: bool


class End(_Message):
    """End the whole run."""

    do: Literal["end"]


Command = (
    Veil | Standby | WearPersona | Prepare | WearTier | UseRuntime | ChoosePolicy | Confirm | Adjust | Record | End
)  # fmt: skip
_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="do")])


def parse_command(text: str | bytes) -> Command:
    """One command from JSON. Raises ValueError with one line that says what is wrong."""
    if len(text) > MAX_COMMAND_BYTES:
        raise ValueError(f"a message of {len(text)} bytes is too long")
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


class WornNow(_Message):
    """Who is worn, and what computes."""

    name: str
    title: str
    kind: Literal["invented", "person"]
    tier: str
    tiers: tuple[str, ...] = ()
    """That this persona comes in, the smallest first."""
    runtime: str
    precision: str


class Timing(_Message):
    """Milliseconds of the newest frames."""

    stage: str
    p50: float
    p99: float


class Counted(_Message):
    """Frames since the start."""

    sent: int = 0
    swapped: int = 0
    covered: int = 0
    dropped: int = 0


class Question(_Message):
    """Something that is done only after a yes."""

    number: int
    text: str


class RecordingNow(_Message):
    """What the recorder does; ``available`` False: this run has none."""

    available: bool = False
    phase: Literal["idle", "recording", "finishing"] = "idle"
    path: str | None = None
    seconds: float = 0.0
    message: str | None = None
    failed: bool = False
    microphone: str | None = None


class LiveState(_Message):
    """All that a page or a terminal shows."""

    phase: Phase = "running"
    source: str = ""
    sink: str = ""
    size: tuple[int, int] = (0, 0)
    fps: float = 0.0
    source_fps: float = 0.0
    """0: at its own rate."""
    latency: Timing = Timing(stage="total", p50=0.0, p99=0.0)
    """From capture to the sink."""
    stages: tuple[Timing, ...] = ()
    frames: Counted = Counted()
    covered_now: str | None = None
    """Why the newest picture shows no swap; None: it does."""
    persona: WornNow | None = None
    changing: str | None = None
    """What is being loaded, for people."""
    policy: Literal["veil", "hold", "card", "passthrough"] = "veil"
    knobs: dict[Knob, Value] = {}
    knobs_fixed: dict[Knob, str] = {}
    """Knobs that do nothing now, with the reason."""
    confirm: Question | None = None
    recording: RecordingNow = RecordingNow()
    level: str | None = None
    """Of the governor."""
    warnings: tuple[str, ...] = ()
    """That hold now, in plain words."""
    log: tuple[tuple[int, str], ...] = ()
    """(number, line): the newest lines for people."""
    error: str | None = None
    """Why the last command was not carried out."""


class KnobLimits(_Message):
    """Of one knob, as ``Settings`` declares it."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


class Hello(_Message):
    """The first line to the companion."""

    token: str = Field(min_length=20, max_length=200)
    port: int = Field(ge=0, le=65535)
    """Wanted; another one is taken when it is busy. 0: any."""
    page: bool
    terminal: bool
    hotkeys: bool
    memory: str | None
    """Name of the shared memory with the preview."""
    gallery: tuple[str, ...] = ()
    """Persona files."""
    knobs: dict[Knob, KnobLimits] = {}
    said: int = 0
    """Lines for people that the terminal shows already."""


class Event(_Message):
    """What the companion says besides commands."""

    event: Literal["ready", "note", "failed"]
    text: str
    """ready: the page's address. note, failed: for people."""


def limits_of(schema: dict[str, Any], knob: str) -> KnobLimits:
    """A knob's limits from the JSON schema of ``Settings``."""
    found = schema["properties"][knob]
    options = [found, *found.get("anyOf", ())]
    low = next((o["minimum"] for o in options if "minimum" in o), None)
    high = next((o["maximum"] for o in options if "maximum" in o), None)
    choices = next((tuple(o["enum"]) for o in options if "enum" in o), ())
    return KnobLimits(low=low, high=high, choices=choices)
