"""Who may be worn: a real person's consent is asked for when a persona is opened, never while pictures run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from calibration.consent import Purpose
from calibration.consent_gates import Gatekeeper
from engines.errors import PersonacamError
from engines.persona import Persona

_SHOWN_LIVE: tuple[Purpose, ...] = ("stream", "call")
_KEPT: tuple[Purpose, ...] = ("recording", "film")


def purposes_of(sinks: Sequence[str], stated: Purpose | None) -> tuple[tuple[Purpose, ...], ...]:
    """What a run needs consent for: of each group one purpose.

    A virtual camera cannot know whether a stream or a call looks through it, nor a file what it is for: the user may
    say it (``stated``), and then the consent must cover that. A preview and ``null`` show nobody anything.
    """
    if stated == "research":
        return ((stated,),)
    groups: list[tuple[Purpose, ...]] = [] if stated is None else [(stated,)]
    for sink in sinks:
        if sink in {"preview", "null"}:
            continue
        group = _SHOWN_LIVE if sink.split(":")[0] == "virtualcam" else _KEPT
        if stated not in group:
            groups.append(group)
    return tuple(dict.fromkeys(groups))


def admitted(
    home: Path,
    path: Path,
    sinks: Sequence[str],
    purpose: Purpose | None,
    territory: str | None,
    say: Callable[[str], None],
    *,
    checked: str | None = None,
) -> Persona:
    """Read a persona to wear it; for a real person through the run gate. ``checked`` as in ``read_persona``.

    Raises PersonaError, ConsentError.
    """
    return Gatekeeper(home, warn=say).run(path, purposes_of(sinks, purpose), territory, checked=checked)


def log_end(home: Path, persona: Persona, frames: Mapping[str, int], say: Callable[[str], None]) -> None:
    """Write a real person's run to the log. Its report is worth more than the line: a failure is only said."""
    try:
        Gatekeeper(home, warn=say).ended(persona, frames)
    except PersonacamError as error:
        say(f"the end of the run was not logged: {error}")
