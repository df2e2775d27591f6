"""The profiles of this machine, under HOME/profiles/NAME.json, and what of them must go when a person is forgotten."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from calibration.profile import NAME, Profile, decode
from engines.errors import DataError, SettingsError
from engines.files import read_limited, write_atomic

DEFAULT = "default"
MAX_BYTES = 4 << 20


class ProfileStore:
    """Reads and writes profiles. Files appear whole or not at all."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "profiles"

    def path(self, name: str) -> Path:
        """Where a profile lies or would lie. Raises SettingsError for a name that is none."""
        if not NAME.fullmatch(name):
            raise SettingsError(
                f"{name[:60]!r} cannot be a profile's name", hint="use small letters, digits and hyphens, at most 40"
            )
        return self.folder / f"{name}.json"

    def names(self) -> list[str]:
        """Of all that lie here, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json") if NAME.fullmatch(path.stem))

    def load(self, name: str) -> Profile:
        """Read one. Raises SettingsError when there is none, DataError as ``decode``."""
        path = self.path(name)
        try:
            data = read_limited(path, MAX_BYTES)
        except FileNotFoundError:
            near = difflib.get_close_matches(name, self.names(), n=1)
            raise SettingsError(
                f"there is no profile {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "personacam calibrate wearer makes one",
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"the profile {path} cannot be read: {error}", hint="check the file's rights") from error
        # The file's name counts: a copy under another name is another profile.
        return decode(data, str(path)).model_copy(update={"name": name})

    def load_or_new(self, name: str) -> Profile:
        """The one that is there, or an empty one to be filled. Raises DataError for a damaged one."""
        return self.load(name) if self.path(name).exists() else Profile(name=name)

    def save(self, profile: Profile) -> Path:
        """Write it. Raises DataError when that is not possible."""
        path = self.path(profile.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, profile.encode())
        except OSError as error:
            raise DataError(
                f"the profile {path} cannot be written: {error.strerror}", hint="check space and rights of the folder"
            ) from error
        return path


@dataclass(frozen=True, slots=True)
class Held:
    """What a profile holds of a person."""

    path: Path
    bytes: int
    profile: Profile
    whole: bool
    """The person wears this profile: all of it goes. Else only the lights of their persona."""

    def remove(self) -> None:
        """Raises OSError, DataError."""
        self.path.unlink(missing_ok=True) if self.whole else self._without_lights()

    def _without_lights(self) -> None:
        ProfileStore(self.path.parents[1]).save(self.profile)


def held_of(home: Path, persona: str) -> list[Held]:
    """Profiles with anything of the enrolled person ``persona``: their own face's, or their persona's colours.

    One that cannot be read is passed over: nobody can say whose it is.
    """
    store = ProfileStore(home)
    found = []
    for name in store.names():
        path = store.path(name)
        try:
            profile = store.load(name)
        except DataError:
            continue
        lights = tuple(light for light in profile.lights if light.persona != persona)
        whole = profile.person == persona
        if whole or len(lights) < len(profile.lights):
            rest = profile.model_copy(update={"lights": lights})
            found.append(Held(path, path.stat().st_size, rest, whole))
    return found
