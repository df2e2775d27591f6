"""From a persona's network to a plan that may be used: kept from last time, or built, compared and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from engines.build import Backend, BuildRequest, PlanPrecision, Progress, model_digest
from engines.cache import CachedPlan, PlanCache, PlanKey
from engines.errors import CacheError
from engines.plan_check import OpenPlan, build_checked
from engines.types import F32, U8

Crops = Callable[[], tuple[U8, F32 | None]]
"""Gives what ``build_checked`` compares on; called only when something is built."""


@dataclass(frozen=True, slots=True)
class Target:
    """What runs the plan."""

    backend: Backend
    backend_version: str
    sm: tuple[int, int]
    """Compute capability."""
    gpu_name: str = "any"
    """"any" for a plan that was ordered for a card that is not here."""
    driver: str = "none"


@dataclass(frozen=True, slots=True)
class ReadyPlan:
    """A plan that agrees with the reference."""

    data: bytes
    precision: PlanPrecision
    """That it has; FP32 where FP16 was asked for and refused."""
    path: Path | None
    """Where it is kept; None when it could not be."""
    kept: bool
    """Whether it is from last time."""
    info: Mapping[str, Any]
    """"name", "precision", "seconds", "layers", "weighted", "source", "agreement", "refused"."""


def plan_key(model: bytes, target: Target, precision: PlanPrecision) -> PlanKey:
    """Under which the plan of a persona's ``swap.onnx`` is kept."""
    graph = onnx.load_model_from_string(model).graph
    shapes = ", ".join(
        f"{value.name} {'x'.join(str(d.dim_value) for d in value.type.tensor_type.shape.dim)}" for value in graph.input
    )
    return PlanKey(
        model_sha256=model_digest(model),
        gpu_name=target.gpu_name,
        compute_capability=f"{target.sm[0]}.{target.sm[1]}",
        driver=target.driver,
        backend=target.backend,
        backend_version=target.backend_version,
        precision=precision,
        shapes=shapes,
    )


def ready_plan(
    model: bytes,
    target: Target,
    cache: PlanCache,
    crops: Crops,
    *,
    precision: PlanPrecision = "fp16",
    name: str = "",
    open_plan: OpenPlan | None,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> ReadyPlan:
    """Of ``model``, a persona's ``swap.onnx``. Of several processes one builds, the others wait for it.

    Takes seconds to minutes when it has to be built: call it from a thread of its own while another runtime serves. The
    interpreter is free meanwhile. A folder that cannot be written costs the next start another build, and a line.
    Raises BuildError, PlanRefusedError, and what ``crops`` and ``open_plan`` raise.
    """
    key = plan_key(model, target, precision)
    found = cache.find(key)
    if found is not None:
        return _kept(found, cache.path(key), name, say)
    request = BuildRequest(model, target.backend, target.sm, precision, name)

    def build() -> ReadyPlan:
        return _build(request, key, cache, crops, open_plan, say, progress)

    try:
        lock = cache.lock(key, lambda: say("another process builds this plan; waiting for it"))
        with lock:
            found = cache.find(key)
            return _kept(found, cache.path(key), name, say) if found is not None else build()
    except CacheError as error:  # no lock to be had: build without
        say(f"{error.message} ({error.hint})")
        return build()


def _kept(found: CachedPlan, path: Path, name: str, say: Callable[[str], None]) -> ReadyPlan:
    precision: PlanPrecision = "fp32" if found.info.get("precision") == "fp32" else "fp16"
    if found.info.get("refused"):
        say(f"{name or 'the plan'} is of FP32: FP16 was refused when it was built: {found.info['refused']}")
    return ReadyPlan(found.data, precision, path, kept=True, info=found.info)


def _build(
    request: BuildRequest,
    key: PlanKey,
    cache: PlanCache,
    crops: Crops,
    open_plan: OpenPlan | None,
    say: Callable[[str], None],
    progress: Progress | None,
) -> ReadyPlan:
    pictures, points = crops()
    checked = build_checked(request, pictures, points, open_plan=open_plan, say=say, progress=progress)
    plan = checked.plan
    info = {
        "name": request.name, "precision": plan.precision, "seconds": round(plan.seconds, 2),
        "layers": dict(plan.layers), "weighted": dict(plan.weighted), "source": plan.source,
        "agreement": asdict(checked.agreement), "refused": checked.refused,
    }  # fmt: skip
    path: Path | None = None
    try:
        path = cache.put(key, plan.data, info)
    except CacheError as error:
        say(f"{error.message} ({error.hint})")
    return ReadyPlan(plan.data, plan.precision, path, kept=False, info=info)
