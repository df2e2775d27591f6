"""Is a plan as good as the network that it was built from? Compared with ONNX Runtime in FP32, on real crops.

A plan that is not is replaced by one of FP32, and that is said: never silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.build import BuildRequest, Plan, Progress, build_plan
from engines.errors import PlanRefusedError
from engines.live_graph import PlanPrecision, live_graph, rounded_graph
from engines.runtimes.onnx import OnnxRuntime, import_onnxruntime
from engines.types import F32, U8

Tensors = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors], Tensors]
"""Inputs -> outputs of ``live_graph``, which may be reused by the next call."""
OpenPlan = Callable[[Plan], AbstractContextManager[Run]]
"""A plan ready to run on this machine's card."""

CROPS = 32
"""At least so many are compared."""
MIN_PSNR_DB = 45.0
"""Of pictures and of masks, over all crops together."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a plan is from the FP32 reference. Rounding to bytes alone gives 58.9 dB."""

    crops: int
    pixels_psnr_db: float
    mask_psnr_db: float
    code_error: float
    """Largest difference of any number of a code."""
    checked: Literal["plan", "graph"]
    """Whether the plan itself ran, or the graph that it was built from, on the CPU."""

    @property
    def good(self) -> bool:
        """Near enough; NaN is not."""
        return min(self.pixels_psnr_db, self.mask_psnr_db) >= MIN_PSNR_DB and bool(np.isfinite(self.code_error))


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan that may be used."""

    plan: Plan
    agreement: Agreement
    refused: str | None
    """Why it is of FP32 although FP16 was asked for; None when it is what was asked for."""


def build_checked(
    request: BuildRequest,
    crops: U8,
    points: F32 | None,
    *,
    open_plan: OpenPlan | None,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> CheckedPlan:
    """Build and compare; FP16 that is refused becomes FP32, and ``say`` gets the reason.

    ``crops`` (N, S, S, 3) uint8 BGR, 32 or more, with ``points`` (N, P, 2) as fractions of the side where the persona
    takes some. Without ``open_plan`` (no card here) the graph is compared on the CPU. Raises BuildError, and
    PlanRefusedError when FP32 is not good either.
    """
    try:
        return CheckedPlan(*_built(request, crops, points, open_plan, progress), None)
    except PlanRefusedError as error:
        if request.precision == "fp32":
            raise
        reason = error.message
    say(f"{request.name or 'the plan'}: FP16 is refused, building FP32 instead: {reason}")
    wider = replace(request, precision="fp32")
    return CheckedPlan(*_built(wider, crops, points, open_plan, progress), reason)


def _built(
    request: BuildRequest, crops: U8, points: F32 | None, open_plan: OpenPlan | None, progress: Progress | None
) -> tuple[Plan, Agreement]:
    if open_plan is None:  # before the build: it needs no plan
        agreement = verify_graph(request.onnx, request.precision, crops, points)
        return build_plan(request, progress), agreement
    plan = build_plan(request, progress)
    with open_plan(plan) as run:
        return plan, verify(run, request.onnx, crops, points)


def verify_graph(onnx: bytes, precision: PlanPrecision, crops: U8, points: F32 | None = None) -> Agreement:
    """The same comparison for ``live_graph`` in ONNX Runtime on the CPU. Raises PlanRefusedError."""
    return verify(graph_runner(live_graph(onnx, precision)), onnx, crops, points, checked="graph")


def verify(
    run: Run, onnx: bytes, crops: U8, points: F32 | None = None, *, checked: Literal["plan", "graph"] = "plan"
) -> Agreement:
    """Compare ``run`` with ``onnx`` in FP32, each crop with its points and without. Raises PlanRefusedError."""
    if len(crops) < CROPS:
        raise PlanRefusedError(f"{len(crops)} crops cannot judge a plan", hint=f"give {CROPS} or more")
    reference = OnnxRuntime(onnx)
    squares = {"pixels": 0.0, "mask": 0.0}
    counts = dict.fromkeys(squares, 0)
    worst = 0.0
    for given, wanted in _pairs(reference, crops, points):
        found = run(given)
        for name, expected in wanted.items():
            error = found[name].astype(np.float64) - expected
            if name == "code":
                worst = float(np.maximum(worst, np.abs(error).max()))  # NaN stays NaN
            else:
                squares[name] += float((error**2).sum())
                counts[name] += error.size
    reference.close()
    pixels_db, mask_db = (_psnr_db(squares[name] / counts[name]) for name in squares)
    agreement = Agreement(len(crops), pixels_db, mask_db, worst, checked)
    if not agreement.good:
        what = f"pictures agree with FP32 to {pixels_db:.1f} dB, masks to {mask_db:.1f} dB"
        odd = "" if np.isfinite(worst) else ", and there are numbers that are not finite"
        raise PlanRefusedError(
            f"{what}{odd} (at least {MIN_PSNR_DB:g} dB)", hint="ask for FP32: --precision fp32, or --runtime openvino"
        )
    return agreement


def _psnr_db(mean_square: float) -> float:
    """Of values 0..255; infinity for equal ones, NaN for NaN."""
    return float(-10.0 * np.log10(mean_square / 255.0**2)) if mean_square != 0.0 else float("inf")


def _pairs(reference: OnnxRuntime, crops: U8, points: F32 | None) -> Iterator[tuple[Tensors, Tensors]]:
    """(inputs of the live graph, its outputs as the reference has them, unrounded) for each crop."""
    shapes = reference.inputs
    calibration: dict[str, NDArray[Any]] = {
        name: np.full(shapes[name], value, np.float32)
        for name, value in (("code_gain", 1.0), ("code_shift", 0.0), ("morph", 0.5))
        if name in shapes
    }
    for i, crop in enumerate(crops):
        face = np.ascontiguousarray(crop[:, :, ::-1].transpose(2, 0, 1)[None], np.float32) / np.float32(255.0)
        for flag in (1.0, 0.0) if "points" in shapes else (0.0,):
            extra = dict(calibration)
            if "points" in shapes:
                own = np.zeros(shapes["points"], np.float32) if points is None else points[i : i + 1]
                extra["points"] = np.ascontiguousarray(own, np.float32)
                extra["present"] = np.full((1, 1), flag if points is not None else 0.0, np.float32)
            outputs = reference.run({"face": face, **extra})
            wanted = {
                "pixels": outputs["swap"].transpose(0, 2, 3, 1)[..., ::-1] * 255.0,
                "mask": outputs["mask"][:, 0] * 255.0,
                "code": outputs["code"],
            }
            yield {"crop": np.ascontiguousarray(crop[None]), **extra}, wanted


def graph_runner(graph: bytes) -> Run:
    """A live graph in ONNX Runtime on the CPU, rounded to FP16 where it says so (``rounded_graph``)."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(rounded_graph(graph), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]

    def run(feeds: Tensors) -> Tensors:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    return run


@contextmanager
def opened_plan(plan: Plan) -> Iterator[Run]:
    """``OpenPlan`` for this machine's first card. Raises RuntimeFailure, MissingDependencyError."""
    from engines.runtimes.cuda import Cuda
    from engines.runtimes.tensorrt import Engine

    engine = Engine(plan.data, plan.backend, Cuda(), graph=False)

    def run(feeds: Tensors) -> Tensors:
        for name, value in feeds.items():
            engine.inputs[name][...] = value
        engine.run()
        return engine.outputs

    try:
        yield run
    finally:
        engine.close()
