"""All options of a run in one immutable value: defaults here, then a TOML profile, then the command line's flags."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from engines.errors import SettingsError
from engines.files import read_limited
from realtime.policy import FailurePolicy
from realtime.provenance import LabelPosition
from realtime.v4l2_controls import ControlWishes, PowerLine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Pace = Literal["auto", "on", "off"]
DEFAULT_PERSONA = "vera"
MAX_PROFILE_BYTES = 64 << 10


class Settings(BaseModel):
    """One run. Every field is an option of ``personacam run`` and a key of a profile, under the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    source: str = "0"
    """Camera number, /dev path, address, video file, folder of pictures, ``pattern`` or ``demo``."""
    persona: str = DEFAULT_PERSONA
    """A shipped or imported persona's name, or a .persona file."""
    tier: Literal["tiny", "small", "base"] | None = None
    """Size of the persona's network; None takes the smallest that there is."""
    sink: tuple[str, ...] = ("virtualcam",)
    """``virtualcam[:DEVICE]``, FILE.mp4, ``preview``, ``null``; several at once."""
    microphone: str | None = None
    """Sound of recordings: a name, a part of one, a number or ``default``; None and ``none``: silent."""
    credentials: bool = True
    """C2PA content credentials in recordings."""
    c2pa_cert: Path | None = None
    """Sign them with this PEM chain instead of this computer's own certificate; with ``c2pa_key``."""
    c2pa_key: Path | None = None
    """Its private key, PEM, without a passphrase."""
    purpose: Literal["stream", "recording", "call", "film", "research"] | None = None
    """Personas of real people: what the run is for. None: what the outputs look like."""
    territory: str | None = Field(None, pattern=r"^[A-Z]{2}$")
    """Personas of real people whose consent is for some countries: where this is, for example DE."""
    policy: FailurePolicy = FailurePolicy.VEIL
    """What leaves when there is no swap."""
    hold_s: float = Field(1.0, ge=0.0, le=30.0)
    """Policy ``hold``: how long the last good picture stays before the veil."""
    card: Path | None = None
    """Policy ``card``: a picture file; none draws a plain card."""
    label: bool = True
    """The visible AI MODIFIED label."""
    label_position: LabelPosition = "top-right"
    width: int = Field(1280, ge=64, le=7680)
    height: int = Field(720, ge=64, le=4320)
    fps: float = Field(30.0, gt=0.0, le=240.0)
    """Asked of a camera, and the rate of the pattern and of picture folders."""
    power_line: PowerLine | None = None
    """Camera, on Linux: the mains' frequency, against lamps that flicker. None leaves the camera as it is."""
    exposure: Literal["auto"] | float | None = None
    """Camera, on Linux: milliseconds, or auto."""
    focus: Literal["auto"] | int | None = None
    """Camera, on Linux: the camera's own number, or auto."""
    steady_rate: bool | None = None
    """Camera, on Linux: keep the rate in dim light, with a darker picture."""
    pace: Pace = "auto"
    """Files at their own rate (on), or as fast as possible and without dropping a frame (off); auto is off when all
    sinks are files or null."""
    detector: Literal["mesh", "insightface"] = "mesh"
    insightface_pack: Path | None = None
    runtime: Literal["auto", "tensorrt", "tensorrt-rtx", "openvino", "onnxruntime"] = "auto"
    """auto: TensorRT where there is an NVIDIA card and the package for it, else OpenVINO, else ONNX Runtime."""
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    """Of the persona's network. auto: live on a CPU the fastest that was measured to give the same picture, found out
    beside the first run; float32 for files."""
    governor: Literal["auto", "off"] = "auto"
    """auto: live, tier, detection cadence and rate follow what this machine can do, at most the tier asked for."""
    threads: int = Field(1, ge=1, le=64)
    """Of one inference session."""
    colour_strength: float = Field(0.5, ge=0.0, le=1.0)
    """How far the persona's colours follow the wearer's: 0 keeps the persona's own, 1 matches fully."""
    morph: float | None = Field(None, ge=0.0, le=1.0)
    """Imported AMP models: how much of the persona, 0..1. None: what the import said."""
    strength: float = Field(1.0, ge=0.7, le=1.3)
    """Of the expression, where the persona knows its neutral face: below 1 calmer, above it livelier than the wearer.
    It is no opacity: nothing of the wearer shows at any value."""
    sharpen: float = Field(0.0, ge=0.0, le=1.0)
    """Of the persona's own pixels."""
    mirror: bool = False
    """Left and right exchanged in what leaves; the label stays readable."""
    erode: int = Field(1, ge=-6, le=12)
    """The mask's edge moves inward by so many pixels of the swap's own grid; negative: outward."""
    feather: int = Field(4, ge=0, le=16)
    """Softening of the mask's edge, in pixels of the swap's own grid; too much of it would show the wearer."""
    smooth: bool = True
    """Smoothing in time: of the alignment, and of what the persona's network sees."""
    smoothing: float = Field(0.5, ge=0.0, le=1.0)
    """How much of it: 0 none, 0.5 as measured to be best, 1 the calmest and the laziest."""
    calibration: str | None = Field(None, max_length=40)
    """Profile of ``personacam calibrate``; None and ``none``: without. ``personacam run`` uses the default one."""
    mic_delay_ms: float | None = Field(None, ge=0.0, le=2000.0)
    """By how much sound is to be delayed so that it fits the picture; None: by the latency that is measured."""
    control: bool | None = None
    """Serve the control page on 127.0.0.1. None: ``personacam run`` does so in a terminal."""
    control_port: int = Field(8747, ge=0, le=65535)
    """Of the control page; another one when it is taken. 0: any."""
    hotkeys: bool = True
    """Global hotkeys, where the hotkeys extra is installed and the system allows them; only with the control page."""
    deadline_ms: float = Field(1000.0, gt=0.0)
    """Live only: a frame that took longer than this is covered by the policy."""
    loop: bool = False
    frames: int | None = Field(None, ge=1)
    """Stop after so many frames."""
    seconds: float | None = Field(None, gt=0.0)
    """Stop after so much time."""

    def camera_controls(self) -> ControlWishes:
        """What is asked of the camera's own knobs."""
        return ControlWishes(self.power_line, self.exposure, self.focus, self.steady_rate)

    @field_validator("sink", mode="before")
    @classmethod
    def _one_sink_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("sink")
    @classmethod
    def _some_sink(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one sink is needed; use null for none")
        if len(set(value)) < len(value):
            raise ValueError("the same sink stands there twice")
        return value


def load_profile(path: Path) -> dict[str, Any]:
    """Read a TOML profile. Raises SettingsError when it is missing, damaged or has an unknown key."""
    try:
        values = tomllib.loads(read_limited(path, MAX_PROFILE_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"there is no profile {path}", hint="check the path given with --profile") from None
    # Besides TOML's own errors: numbers of thousands of digits, and nesting that is deeper than the stack.
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"the profile {path} cannot be read: {error}", hint="it must be TOML: key = value"
        ) from error
    _check_keys(values, str(path))
    return values


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    known = list(Settings.model_fields)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise SettingsError(
                f"unknown option {key[:40]!r} in {where}",
                hint=f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(known)}",
            )


def resolve(
    flags: Mapping[str, Any], profile: Path | None = None, defaults: Mapping[str, Any] = MappingProxyType({})
) -> Settings:
    """Defaults, then the profile, then the flags that were given (None means not given). Raises SettingsError."""
    values = dict(defaults) | (load_profile(profile) if profile else {})
    values |= {key: value for key, value in flags.items() if value is not None}
    _check_keys(values, "the options")
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:1]) or "settings"
        raise SettingsError(
            f"--{name.replace('_', '-')}: {first['msg']}",
            hint=f"got {str(first.get('input'))[:80]!r}; see personacam run --help",
        ) from error
