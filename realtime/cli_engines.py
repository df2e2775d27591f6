"""The verbs of the group ``engines``: TensorRT plans, built ahead of the first run, listed and removed."""

from __future__ import annotations

import re
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engines.errors import BuildError, SettingsError
from realtime.console import console, duration, errors_explained, print_json, say

if TYPE_CHECKING:
    from engines.build import Backend, BackendInfo, Progress
    from engines.cache import Entry, PlanCache
    from engines.persona import Persona
    from engines.ready_plan import ReadyPlan, Target

engines_app = typer.Typer(help="TensorRT engines for NVIDIA cards, built from personas.", no_args_is_help=True)


class BackendName(str, Enum):
    """What builds and runs."""

    RTX = "tensorrt-rtx"
    TENSORRT = "tensorrt"


class PrecisionName(str, Enum):
    """In what the network computes."""

    FP16 = "fp16"
    FP32 = "fp32"


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of built engines; else PERSONACAM_CACHE or the user's.", show_default="own"),
]


def _cache(folder: Path | None) -> PlanCache:
    from engines.cache import PlanCache, default_folder

    return PlanCache(folder or default_folder(), say=say)


@engines_app.command(
    epilog="""Examples:

    personacam engines build --persona vera                       for the card in this machine

    personacam engines build --persona vera --backend tensorrt-rtx --sm 8.9 --json   for an RTX 40; needs no card"""
)
def build(
    persona: Annotated[str, typer.Option("--persona", "-p", help="A persona's name or a .persona file.")] = "vera",
    tier: Annotated[
        str | None, typer.Option(help="tiny, small or base: size of the persona's network.", show_default="smallest")
    ] = None,
    backend: Annotated[
        BackendName | None, typer.Option(help="tensorrt-rtx or tensorrt.", show_default="what is installed")
    ] = None,
    sm: Annotated[
        str | None, typer.Option("--sm", help="Compute capability, as 8.9.", show_default="of the card here")
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="fp16 falls back to fp32 aloud.")] = PrecisionName.FP16,
    cache: CacheOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Build the engine of one persona, compare it with the FP32 reference, and keep it."""
    with errors_explained(as_json=as_json):
        from calibration.consent_gates import shown_only
        from engines.persona import read_persona
        from realtime.session import persona_store

        target, here = _target(None if backend is None else backend.value, sm)
        found = read_persona(persona_store().find(persona, tier), admit=shown_only)  # a run asks
        ready = _ready(found, target, _cache(cache), precision.value, here=here)
    report = _report(found, target, ready)
    say(_sentence(report))
    if as_json:
        print_json(report)


def _target(backend: Backend | None, sm: str | None) -> tuple[Target, bool]:
    """What to build for, and whether that card is here. Raises BuildError, SettingsError."""
    from engines.build import available_backends
    from engines.cache import driver_release
    from engines.ready_plan import Target
    from engines.runtimes.cuda import find_card

    card = find_card()
    if sm is None and card is None:
        raise SettingsError("there is no NVIDIA card here to build for", hint="name one: --sm 8.9")
    wanted = card.compute if sm is None and card is not None else _compute(sm or "")
    here = card is not None and card.compute == wanted
    chosen = _backend(backend, available_backends(), wanted)
    version = chosen.version or ""
    if card is None or not here:
        return Target(chosen.name, version, wanted), False
    return Target(chosen.name, version, wanted, card.name, f"{driver_release()} (CUDA {card.driver})"), True


def _backend(wanted: Backend | None, there: tuple[BackendInfo, ...], sm: tuple[int, int]) -> BackendInfo:
    """The one that was named, or the first that is installed and builds for ``sm``."""
    from realtime.engine_plan import RTX_COMPUTE

    candidates = [info for info in there if wanted in {None, info.name}]
    for info in candidates:
        unfit = wanted is None and info.name == BackendName.RTX.value and sm not in RTX_COMPUTE
        if info.reason is None and not unfit:
            return info
    unfit_reason = f"does not build for SM {sm[0]}.{sm[1]}"
    reasons = "; ".join(f"{info.name}: {info.reason or unfit_reason}" for info in candidates)
    raise BuildError(f"no TensorRT can be used: {reasons}", hint="engines are optional: everything runs without")


def _compute(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,2})\.(\d)", text)
    if match is None:
        raise SettingsError(f"{text!r} is no compute capability", hint="give it as --sm 8.9")
    return int(match[1]), int(match[2])


def _ready(persona: Persona, target: Target, cache: PlanCache, precision: Any, *, here: bool) -> ReadyPlan:
    """Build with a line that shows how long it has taken, and usually takes."""
    from engines.plan_check import opened_plan
    from engines.ready_plan import ready_plan
    from realtime.session import wearer_crops

    what = f"{persona.manifest.name} for SM {target.sm[0]}.{target.sm[1]}"
    with console.status(f"preparing {what}") as status:

        def show(elapsed_s: float, typical_s: float) -> None:
            status.update(f"building {what}: {duration(elapsed_s)}, usually about {duration(typical_s)}")

        progress: Progress = show
        return ready_plan(
            persona.swap_onnx,
            target,
            cache,
            lambda: wearer_crops(persona.manifest.crop_size),
            precision=precision,
            name=persona.manifest.name,
            open_plan=opened_plan if here else None,
            say=say,
            progress=progress,
        )


def _report(persona: Persona, target: Target, ready: ReadyPlan) -> dict[str, Any]:
    manifest = persona.manifest
    return {
        "persona": {"name": manifest.name, "tier": manifest.tier, "sha256": persona.sha256},
        "plan": None if ready.path is None else str(ready.path),
        "bytes": len(ready.data),
        "kept": ready.kept,
        "backend": target.backend,
        "backend_version": target.backend_version,
        "sm": f"{target.sm[0]}.{target.sm[1]}",
        "gpu": target.gpu_name,
    } | {key: ready.info.get(key) for key in _REMEMBERED}


_REMEMBERED = ("precision", "seconds", "source", "layers", "weighted", "agreement", "refused")


def _sentence(report: dict[str, Any]) -> str:
    weighted, agreement = report["weighted"] or {}, report["agreement"] or {}
    layers = ", ".join(f"{count} in {name}" for name, count in weighted.items())
    how = "kept from last time" if report["kept"] else f"built in {duration(report['seconds'] or 0)}"
    read = "of the engine" if report["source"] == "inspector" else "of the graph"
    read += "; no card here that could run it" if report["gpu"] == "any" else ""
    return (
        f"{report['persona']['name']} ({report['persona']['tier']}) for SM {report['sm']} with {report['backend']}"
        f" {report['backend_version']}: {report['precision']}, {report['bytes'] / 1e6:.1f} MB, {how};"
        f" layers with weights: {layers} (read {read}); {agreement.get('pixels_psnr_db', 0):.1f} dB against FP32"
        f" ({agreement.get('checked', '')})\n{report['plan'] or 'not kept'}"
    )


@engines_app.command("list")
def list_(cache: CacheOption = None, as_json: JsonFlag = False) -> None:
    """Which engines are kept, and which TensorRT there is."""
    from engines.build import available_backends

    with errors_explained(as_json=as_json):
        kept = _cache(cache)
        entries = kept.entries()
        backends = available_backends()
    table = Table("persona", "backend", "SM", "card", "precision", "MB", "last used")
    for entry in entries:
        key = entry.key
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        name, precision = str(entry.info.get("name", "")), str(entry.info.get("precision", key.precision))
        backend = f"{key.backend} {key.backend_version}"
        table.add_row(name, backend, key.compute_capability, key.gpu_name, precision, f"{entry.size / 1e6:.1f}", used)
    console.print(table)
    say(f"{kept.folder}: {sum(e.size for e in entries) / 1e6:.1f} MB of {kept.limit_bytes / 1e6:.0f} MB")
    for info in backends:
        say(f"{info.name}: {info.version or info.reason}")
    if as_json:
        print_json({
            "folder": str(kept.folder), "limit_bytes": kept.limit_bytes, "bytes": sum(e.size for e in entries),
            "plans": [_row(entry) for entry in entries],
            "backends": [{"name": b.name, "version": b.version, "reason": b.reason} for b in backends],
        })  # fmt: skip


def _row(entry: Entry) -> dict[str, Any]:
    key = entry.key
    return {
        "plan": str(entry.path), "bytes": entry.size, "used": entry.used, "name": entry.info.get("name"),
        "precision": entry.info.get("precision"), "asked": key.precision, "backend": key.backend,
        "backend_version": key.backend_version, "sm": key.compute_capability, "gpu": key.gpu_name,
        "driver": key.driver,
    }  # fmt: skip


@engines_app.command()
def clear(cache: CacheOption = None, as_json: JsonFlag = False) -> None:
    """Remove all kept engines; they are built again when they are needed."""
    with errors_explained(as_json=as_json):
        count, size = _cache(cache).clear()
    say(f"{count} engines removed, {size / 1e6:.1f} MB")
    if as_json:
        print_json({"removed": count, "bytes": size})
