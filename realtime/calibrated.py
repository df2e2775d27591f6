"""The calibration profile in a run: what of it stands behind which option, and its one line for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from calibration.calibrate_machine import machine_name
from calibration.profile import Light, Profile
from calibration.profile_store import DEFAULT, ProfileStore
from engines.errors import DataError, PersonacamError, SettingsError
from engines.persona import Persona
from realtime.blend import Blender
from realtime.config import Settings, resolve
from realtime.light_blend import LightBlender
from realtime.live_settings import blend_config
from realtime.swap import Swapper

Say = Callable[[str], None]
NONE = "none"


def store() -> ProfileStore:
    """The user's profiles."""
    from realtime.session import data_folder

    return ProfileStore(data_folder())


def settings_of(flags: Mapping[str, Any], profile: str | None, *, off: bool) -> Settings:
    """Options of a run from the command line.

    ``profile`` names a calibration, or is a TOML file with options (it ends in .toml); ``off`` uses none; else it is
    the one named default, if there is one. Defaults come from the calibration's machine and delay, then the TOML file,
    then the flags. Raises SettingsError; DataError for a profile that is damaged or of a newer version.
    """
    file = Path(profile) if profile is not None and profile.lower().endswith(".toml") else None
    defaults: dict[str, Any] = {}
    if off:
        if profile is not None and file is None:
            raise SettingsError(
                f"--profile {profile} and --no-profile contradict each other", hint="give one of the two"
            )
        flags = {**flags, "calibration": NONE}
    elif profile is not None and file is None:
        flags = {**flags, "calibration": profile}
    elif store().path(DEFAULT).exists():
        defaults = {"calibration": DEFAULT}
    settings = resolve(flags, file, defaults)
    found = calibration_of(settings)
    return (
        settings if found is None else resolve(flags, file, defaults | _sound_default(found) | _machine_defaults(found))
    )


def _machine_defaults(found: Profile) -> dict[str, Any]:
    """What was measured best here; nothing when it was another machine."""
    part = found.machine
    if part is None or part.machine != machine_name():
        return {}
    values: dict[str, Any] = {"tier": part.tier, "runtime": part.runtime}
    if part.precision != "fp16":  # TensorRT's own, which no option asks for
        values["precision"] = part.precision
    return values


def _sound_default(found: Profile) -> dict[str, Any]:
    """Recordings hold the microphone back by the camera's latency too, which no program can know by itself."""
    return {} if found.delay is None else {"mic_delay_ms": float(found.delay.audio_offset_ms)}


def calibration_of(settings: Settings) -> Profile | None:
    """The profile that a run uses.

    Raises SettingsError for a name that there is not, DataError for a file that cannot be used.
    """
    return None if settings.calibration in {None, NONE} else store().load(str(settings.calibration))


def put_on_profile(settings: Settings, persona: Persona, swapper: Swapper, say: Say) -> Blender:
    """Calibrate ``swapper`` to the wearer and give the blender with the learned colours, as far as they fit.

    A profile that cannot be used is said and left out: a stream is worth more than its calibration.
    """
    config, lights = blend_config(settings), tuple[Light, ...]()
    try:
        found = calibration_of(settings)
        if found is not None:
            lights = tuple(light for light in found.lights if light.persona == persona.manifest.name)
            worn = _calibrated(found, swapper)
            say(sentence(found, persona.manifest.name, settings, worn=worn))
    except PersonacamError as error:
        say(f"without the calibration: {error}")
    if not lights:
        return Blender(config, swapper.swap_size, swapper.square)
    return LightBlender(config, swapper.swap_size, swapper.square, lights=lights)


def _calibrated(found: Profile, swapper: Swapper) -> bool | str:
    """Whether the wearer's part is in use, or why not."""
    if found.wearer is None:
        return False
    try:
        swapper.calibrate(found.wearer.calibration())
    except DataError as error:
        return error.message
    return True


def sentence(found: Profile, persona: str, settings: Settings, *, worn: bool | str) -> str:
    """What of a profile a run uses, in one line."""
    parts = []
    if worn is True:
        parts.append("the wearer")
    lights = [light.name for light in found.lights if light.persona == persona]
    if lights:
        parts.append(f"colours in {', '.join(lights)}")
    best = _machine_defaults(found)
    if best and all(getattr(settings, option) == value for option, value in best.items()):
        parts.append(f"this machine's best ({', '.join(best.values())})")
    if found.delay is not None:
        parts.append(f"sound {found.delay.audio_offset_ms} ms later in OBS")
    used = ", ".join(parts) or "nothing that fits this persona and machine"
    return f"calibration {found.name}: {used}" + (f"; not the wearer: {worn}" if isinstance(worn, str) else "")
