"""What a calibration found out, kept: the wearer, colours per light, delays, and what this machine can do.

A profile is one JSON file of one wearer at one machine; each part is there or not. Files of older versions are read
through upgrades, one per version and named after what it changed; a file of a newer program is refused. Every field can
be edited by hand (``personacam calibrate edit``): what is then not a profile any more is refused with the field's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import DataError, SettingsError
from engines.strict_json import strict_object
from engines.types import F32
from engines.wearer import WearerCalibration

SCHEMA_VERSION = 2
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_NAME_FIELD = r"^[a-z0-9][a-z0-9-]{0,39}$"
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Gains = tuple[float, float, float]


class _Part(BaseModel):
    # Not strict: who edits a file by hand writes 1 for 1.0, and JSON has no tuples.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    made: str = Field(default="", max_length=40)
    """When it was measured, UTC, ISO 8601; empty: not known."""


class WearerPart(_Part):
    """One wearer's gain and shift for the codes of one encoder (see ``engines.wearer``)."""

    encoder_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    gain: tuple[Number, ...] = Field(min_length=1, max_length=8192)
    """(C,) positive."""
    shift: tuple[Number, ...] = Field(min_length=1, max_length=8192)
    """(C,)"""
    frames: int = Field(default=0, ge=0)
    """So many taught it."""
    rest: dict[str, Number] = Field(default_factory=dict)
    """How far off the face at rest was, in shares of the wearer's own range: brows, mouth, lids, jaw."""

    @model_validator(mode="after")
    def _fits(self) -> WearerPart:
        if len(self.gain) != len(self.shift) or not all(value > 0 for value in self.gain):
            raise ValueError("gain and shift are of one length, and every gain is positive")
        return self

    @classmethod
    def of(
        cls, found: WearerCalibration, *, made: str = "", frames: int = 0, rest: Mapping[str, float] | None = None
    ) -> WearerPart:
        """What was calibrated, to be kept."""
        return cls(
            made=made, encoder_sha256=found.encoder_sha256, frames=frames, rest=dict(rest or {}),
            gain=tuple(float(v) for v in found.gain), shift=tuple(float(v) for v in found.shift),
        )  # fmt: skip

    def calibration(self) -> WearerCalibration:
        """As the swapper takes it."""
        gain: F32 = np.array(self.gain, np.float32)
        return WearerCalibration(gain, np.array(self.shift, np.float32), self.encoder_sha256)


class Light(_Part):
    """One persona's colours in one light before one camera (see ``calibration.calibrate_colour``)."""

    name: str = Field(pattern=_NAME_FIELD)
    """For people: evening, window."""
    persona: str = Field(pattern=_NAME_FIELD)
    face: tuple[Number, Number, Number]
    """The wearer's face in this light, mean B, G, R, linear 0..1: how the light is known again."""
    gain: Gains
    """B, G, R: times the swap's linear light."""

    @model_validator(mode="after")
    def _positive(self) -> Light:
        if not all(0.1 <= value <= 10.0 for value in self.gain):
            raise ValueError("a light's gain lies in 0.1 to 10")
        if not all(0.0 < value <= 1.0 for value in self.face):
            raise ValueError("a light's face lies in 0 to 1")
        return self


class DelayPart(_Part):
    """How late the picture is, in milliseconds (see ``calibration.calibrate_delay``)."""

    source: str = Field(default="", max_length=200)
    """The camera that was measured."""
    camera_ms: float = Field(ge=0.0, le=5000.0)
    """From the light to the frame's time stamp."""
    spread_ms: float = Field(default=0.0, ge=0.0, le=5000.0)
    """Of single frames, standard deviation."""
    pipeline_ms: float = Field(default=0.0, ge=0.0, le=5000.0)
    """From the time stamp to the sink, the median."""

    @property
    def audio_offset_ms(self) -> int:
        """By how much sound must be held back to meet the picture: OBS's "Sync Offset" of the microphone."""
        return round(self.camera_ms + self.pipeline_ms)


class MachinePart(_Part):
    """What this machine does best (see ``calibration.calibrate_machine``)."""

    machine: str = Field(max_length=200)
    """Which processor and card were measured: another one does not use this."""
    tier: Literal["tiny", "small", "base"]
    runtime: Literal["tensorrt", "tensorrt-rtx", "openvino", "onnxruntime"]
    precision: Literal["f32", "bf16", "int8", "fp16"]
    fps: float = Field(gt=0.0, le=240.0)
    """The rate that was wanted."""
    holds: bool
    """Whether the choice holds that rate."""
    why: str = Field(max_length=400)
    frame_ms: float = Field(ge=0.0)
    """Nine frames in ten of the choice take less, everything included."""
    measured: tuple[dict[str, str | float], ...] = Field(default=(), max_length=100)
    """Every candidate with its times, or its error."""


class Profile(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[2] = 2
    name: str = Field(default="default", pattern=_NAME_FIELD)
    person: str | None = Field(default=None, pattern=_NAME_FIELD)
    """The enrolled persona whose person wears this profile, so that ``forget`` finds it; None: not said."""
    wearer: WearerPart | None = None
    lights: tuple[Light, ...] = Field(default=(), max_length=200)
    delay: DelayPart | None = None
    machine: MachinePart | None = None

    def with_light(self, light: Light) -> Profile:
        """The same with one light more, or exchanged if persona and name are known."""
        kept = tuple(one for one in self.lights if (one.persona, one.name) != (light.persona, light.name))
        return self.model_copy(update={"lights": (*kept, light)})

    def encode(self) -> bytes:
        """As a file for people to edit: one field a line, long rows of numbers in one."""
        lines = self.model_dump_json(indent=1) + "\n"
        # Hundreds of numbers, one a line, would hide everything that can be edited by hand.
        return re.sub(r"\[[-0-9.e,\s]+\]", lambda m: re.sub(r"\s+", "", m[0]).replace(",", ", "), lines).encode()


def decode(data: bytes, where: str) -> Profile:
    """Read a file of this or an older version; ``where`` names it in messages.

    Raises DataError for one that is damaged, foreign, wrongly edited, or of a newer version.
    """
    try:
        fields = strict_object(data)
    except ValueError as error:
        raise DataError(
            f"the profile {where} is damaged: {error}", hint="repair it, or delete it and calibrate again"
        ) from error
    version = fields.get("schema_version")
    if type(version) is not int or version < 1:
        raise DataError(f"{where} is no profile: it has no schema_version", hint="calibrate again")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"the profile {where} has format {version}, this version reads up to {SCHEMA_VERSION}",
            hint="update personacam, or calibrate again under another --profile",
        )
    while (version := fields["schema_version"]) < SCHEMA_VERSION:
        fields = UPGRADES[version](fields)
    try:
        return Profile.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "profile"
        raise DataError(
            f"the profile {where}: {field}: {first['msg']}",
            hint=f"it was {str(first.get('input'))[:60]!r}; personacam calibrate show tells what is there",
        ) from error


def _wearer_alone_to_parts(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 1 was ``WearerCalibration.save``: gain and shift and nothing else."""
    wearer = {key: value for key, value in fields.items() if key != "schema_version"}
    return {"schema_version": 2, "wearer": wearer}


UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _wearer_alone_to_parts}
"""Version -> what makes the next one of its fields."""


def changed(profile: Profile, fields: Sequence[str]) -> Profile:
    """With FIELD=VALUE set; dots go into parts, numbers into lists (lights.0.name=noon), null takes out.

    Raises SettingsError for a field that is none, DataError for a value that does not fit.
    """
    values = profile.model_dump(mode="json")
    for text in fields:
        path, sign, value = text.partition("=")
        if not sign:
            raise SettingsError(f"{text!r} sets nothing", hint="give FIELD=VALUE, for example delay.camera_ms=80")
        *above, last = path.split(".")
        place: Any = values
        try:
            for step in above:
                place = place[int(step)] if isinstance(place, list) else place[step]
            key: Any = int(last) if isinstance(place, list) else last
            known = place[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{path} is no field of the profile {profile.name}",
                hint=f"personacam calibrate show {profile.name} tells what is there",
            ) from error
        try:
            place[key] = json.loads(value)
        except ValueError:
            place[key] = value
        if isinstance(known, str) and not isinstance(place[key], str) and place[key] is not None:
            place[key] = value  # a name may look like a number
    return decode(json.dumps(values).encode(), profile.name)
