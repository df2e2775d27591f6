"""TensorRT plans: everything made once, then one graph launch and one synchronisation a frame.

    pinned memory  [ crop | points | present | gain | shift ]  --one copy-->  card
                                                                    plan's kernels
    pinned memory  [ picture | mask | code ]                   <--one copy--  card

Both copies and the kernels are one CUDA graph where the plan can be captured. Conversion between bytes and numbers is
inside the plan (see ``engines.build``). The calls used here are the same from TensorRT 8.5 to 11 and in TensorRT-RTX.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import DeviceError, MissingDependencyError, RuntimeFailure
from engines.runtimes.base import EngineName, LivePrecision
from engines.runtimes.cuda import Cuda
from engines.types import F32, U8

Tensor = NDArray[Any]

MODULES: dict[EngineName, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
"""Back end -> package that runs its plans."""
ALIGNMENT = 512
"""Bytes; TensorRT asks for 256."""
_TYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT8": np.int8, "INT32": np.int32,
    "INT64": np.int64, "BOOL": np.bool_,
}  # fmt: skip
_REBUILD = "personacam engines clear, then start again: the plan is built anew"


def import_tensorrt(backend: EngineName) -> ModuleType:
    """The package that runs the plans of ``backend``. Raises MissingDependencyError.

    Only to be called where there is a driver: a runtime without one was seen to end the process when it closes.
    """
    try:
        return importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:
        extra = "rtx" if backend == "tensorrt-rtx" else "tensorrt"
        raise MissingDependencyError(
            f"{MODULES[backend]} cannot be imported: {error}", hint=f"pip install 'personacam[{extra}]'"
        ) from error


class _Voice:
    """TensorRT's last complaints: its calls only answer no."""

    def __init__(self, trt: ModuleType) -> None:
        self.lines: deque[str] = deque(maxlen=8)
        worst = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
        lines = self.lines

        base: Any = trt.ILogger

        class Logger(base):  # type: ignore[misc]  # the package comes without types
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in worst:
                    lines.append(str(message).strip().splitlines()[0][:200])

        self.logger = Logger()

    def last(self) -> str:
        """What it said last, or that it said nothing."""
        return self.lines[-1] if self.lines else "no reason was given"


@lru_cache(maxsize=4)
def _voice(trt: ModuleType) -> _Voice:
    """One for the whole process: TensorRT keeps the first logger that it is given."""
    return _Voice(trt)


@dataclass(frozen=True, slots=True)
class _Place:
    """One tensor in the block that is copied at once."""

    shape: tuple[int, ...]
    dtype: Any
    offset: int

    @property
    def size(self) -> int:
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)


def _places(tensors: Mapping[str, tuple[tuple[int, ...], Any]]) -> tuple[dict[str, _Place], int]:
    """Tensors behind one another at aligned offsets, and the size of all."""
    found, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        found[name] = _Place(shape, dtype, end)
        end += -(-found[name].size // ALIGNMENT) * ALIGNMENT
    return found, end


class Engine:
    """One plan with its buffers, stream and graph. ``inputs`` and ``outputs`` are arrays in pinned memory.

    Fill ``inputs``, call :meth:`run`, read ``outputs``: they change with the next run and outlive :meth:`close`. Any
    thread, one at a time.
    """

    def __init__(self, plan: bytes, backend: EngineName, cuda: Cuda, *, graph: bool = True) -> None:
        """Load the plan, run it once and capture it. Raises DeviceError, RuntimeFailure, MissingDependencyError."""
        self._cuda: Cuda | None = cuda
        self._memory: list[int] = []
        self._stream = self._graph = 0
        self._capturing = False
        self._trt = import_tensorrt(backend)
        self._voice = _voice(self._trt)
        self.graph_refused: str | None = None
        """Why the plan runs without a CUDA graph, if it does."""
        cuda.use()
        try:
            self._load(plan)
            self._make_buffers(cuda)
            self._enqueue()  # lazy loading and the plan's own allocations happen here, before any capture
            cuda.wait(self._stream)
            if graph:
                self._capture(cuda)
        except BaseException as error:
            self.close(reset=isinstance(error, DeviceError) and error.kind == "lost")
            raise

    def _load(self, plan: bytes) -> None:
        self._voice.lines.clear()
        try:
            self._runtime: Any = self._trt.Runtime(self._voice.logger)
        except TypeError as error:  # how pybind11 says that TensorRT gave nothing
            raise self._failure(
                "TensorRT cannot start", hint="update the NVIDIA driver, see personacam doctor"
            ) from error
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failure("TensorRT cannot load the plan", hint=_REBUILD)
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure("TensorRT cannot prepare the plan", hint=_REBUILD)

    def _make_buffers(self, cuda: Cuda) -> None:
        engine, mode = self._engine, self._trt.TensorIOMode
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        sides: dict[bool, dict[str, tuple[tuple[int, ...], Any]]] = {True: {}, False: {}}
        for name in names:
            shape = tuple(int(side) for side in engine.get_tensor_shape(name))
            word = str(engine.get_tensor_dtype(name)).rsplit(".", 1)[-1]
            if word not in _TYPES or any(side < 0 for side in shape):
                raise RuntimeFailure(f"the plan's {name} is {word} {shape}", hint=_REBUILD)
            sides[engine.get_tensor_mode(name) == mode.INPUT][name] = (shape, _TYPES[word])
        self._stream = cuda.stream()
        self.inputs, self._up = self._block(cuda, sides[True])
        self.outputs, self._down = self._block(cuda, sides[False])
        for array in self.inputs.values():
            array.fill(0)

    def _block(
        self, cuda: Cuda, tensors: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> tuple[dict[str, Tensor], tuple[int, int, int]]:
        """Views by name of a block of pinned memory, and (host address, card address, size) of the block."""
        places, size = _places(tensors)
        device = cuda.allocate(size)
        self._memory.append(device)
        pinned = cuda.pinned(size)
        block = pinned.array()
        views: dict[str, Tensor] = {}
        for name, place in places.items():
            part = block[place.offset : place.offset + place.size]
            views[name] = part.view(place.dtype).reshape(place.shape)
            if not self._context.set_tensor_address(name, device + place.offset):
                raise self._failure(f"TensorRT refuses the buffer of {name}", hint=_REBUILD)
        return views, (pinned.address, device, size)

    def _enqueue(self) -> None:
        """Copy, compute, copy: all into the stream, nothing waited for."""
        assert self._cuda is not None  # noqa: S101 - run() looked
        host, device, size = self._up
        self._cuda.upload(device, host, size, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise self._failure("TensorRT failed", hint="personacam doctor; --runtime openvino works without the card")
        host, device, size = self._down
        self._cuda.download(host, device, size, self._stream)

    def _capture(self, cuda: Cuda) -> None:
        """The frame as one graph, if TensorRT allows it; without one it costs a few launches more."""
        can = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX says so beforehand
        if can is not None and not can(self._stream):
            self.graph_refused = "the plan says that it cannot be captured"
            return
        try:
            self._capturing = True
            try:
                self._graph = cuda.capture(self._stream, self._enqueue)
            finally:
                self._capturing = False
            cuda.launch(self._graph, self._stream)
            cuda.wait(self._stream)
        except RuntimeFailure as error:
            if error.kind in {"lost", "out_of_memory"}:
                raise
            self._drop_graph(cuda)
            self.graph_refused = error.message
            self._enqueue()  # a capture that broke must not have broken the plan
            cuda.wait(self._stream)

    def _failure(self, what: str, hint: str) -> RuntimeFailure:
        """The card's own error if there is one, else TensorRT's words."""
        words = self._voice.last()
        try:
            if self._cuda is not None and self._stream and not self._capturing:
                self._cuda.wait(self._stream)
        except DeviceError as error:
            if error.kind == "lost":
                return error
        lower = words.lower().replace(" ", "")
        if "outofmemory" in lower or "out_of_memory" in lower or "memoryallocation" in lower:
            hint = "close other programs that use the card, or wear a smaller tier"
            return DeviceError(f"{what}: {words}", hint=hint, kind="out_of_memory")
        return RuntimeFailure(f"{what}: {words}", hint=hint)

    @property
    def captured(self) -> bool:
        """Whether frames run as one CUDA graph."""
        return self._graph != 0

    @property
    def bytes_per_frame(self) -> tuple[int, int]:
        """Over the bus: (to the card, from the card)."""
        return self._up[2], self._down[2]

    def run(self) -> None:
        """One frame: ``inputs`` to ``outputs``. Raises DeviceError, RuntimeFailure."""
        cuda = self._cuda
        if cuda is None:
            raise RuntimeFailure("the plan was closed", hint="open it again")
        cuda.use()
        if self._graph:
            cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        cuda.wait(self._stream)

    def _drop_graph(self, cuda: Cuda) -> None:
        graph, self._graph = self._graph, 0
        if graph:
            with contextlib.suppress(DeviceError):
                cuda.call("cuGraphExecDestroy", graph)

    def close(self, *, reset: bool = False) -> None:
        """Free everything on the card; may be called twice. ``reset`` destroys the context of a lost card as well."""
        cuda, self._cuda = self._cuda, None
        if cuda is None:
            return
        with contextlib.suppress(DeviceError):
            cuda.use()
        self._drop_graph(cuda)
        # In this order: TensorRT's objects use the ones after them.
        self._context = self._engine = self._runtime = None
        for address in self._memory:
            with contextlib.suppress(DeviceError):
                cuda.free(address)
        self._memory.clear()
        if self._stream:
            with contextlib.suppress(DeviceError):
                cuda.call("cuStreamDestroy", self._stream)
        if reset:
            cuda.reset()


class TensorRtRuntime:
    """A persona's plan behind the ``LiveRuntime`` protocol."""

    def __init__(
        self,
        plan: bytes,
        backend: EngineName,
        *,
        precision: LivePrecision = "f16",
        cuda: Cuda | None = None,
        graph: bool = True,
    ) -> None:
        """Load a plan of ``engines.build``. Raises DeviceError, RuntimeFailure, MissingDependencyError."""
        self.name: EngineName = backend
        self.precision: LivePrecision = precision
        self.engine = Engine(plan, backend, Cuda() if cuda is None else cuda, graph=graph)
        try:
            self._bind(self.engine)
        except KeyError as error:
            self.close()
            raise RuntimeFailure(f"the plan has no {error.args[0]}", hint=_REBUILD) from error

    def _bind(self, engine: Engine) -> None:
        """Views of the plan's own buffers, without the batch."""
        self._crop: U8 = engine.inputs["crop"][0]
        self._pixels: U8 = engine.outputs["pixels"][0]
        mask = engine.outputs["mask"]
        self._mask: U8 = mask.reshape(mask.shape[-2:])
        self._code: F32 = engine.outputs["code"]
        self._points: F32 | None = engine.inputs.get("points")
        self._present: F32 | None = engine.inputs.get("present")
        self._gain: F32 | None = engine.inputs.get("code_gain")
        self._shift: F32 | None = engine.inputs.get("code_shift")
        self.crop_size, self.swap_size = len(self._crop), len(self._pixels)
        if self._gain is not None:
            self._gain.fill(1.0)
        self._morph: F32 | None = engine.inputs.get("morph")
        self._wanted: tuple[F32, F32] | None = None
        self._set: tuple[F32, F32] | None = None

    def calibrate(self, gain: F32, shift: F32) -> None:
        """See ``LiveRuntime``; a swap in progress keeps the pair that it began with."""
        self._wanted = (gain, shift)

    def morph(self, value: float) -> None:
        """See ``Morphs``."""
        if self._morph is not None:
            self._morph.fill(value)

    def swap(self, crop: U8, points: F32 | None) -> tuple[U8, U8]:
        """See ``LiveRuntime``."""
        if crop.shape != self._crop.shape or crop.dtype != np.uint8:
            raise RuntimeFailure(
                f"a crop of {crop.dtype} {crop.shape}, not of bytes {self._crop.shape}", hint="align with crop_size"
            )
        np.copyto(self._crop, crop)
        self._take_points(points)
        wanted = self._wanted
        if wanted is not self._set and wanted is not None and self._gain is not None and self._shift is not None:
            self._gain[0], self._shift[0] = wanted
            self._set = wanted
        self.engine.run()
        if not np.isfinite(self._code).all():
            raise RuntimeFailure(
                "the persona's network gave numbers that are not finite",
                hint="try --runtime openvino",
                kind="bad_output",
            )
        return self._pixels, self._mask

    def _take_points(self, points: F32 | None) -> None:
        if self._points is None or self._present is None:
            return
        if points is None:
            self._points.fill(0.0)
            self._present.fill(0.0)
            return
        if points.shape != self._points.shape[1:]:
            raise RuntimeFailure(
                f"mesh points of {points.shape}, not {self._points.shape[1:]}", hint="take them from crop_points"
            )
        self._points[0] = points
        self._present.fill(1.0)

    def close(self) -> None:
        """See ``LiveRuntime``."""
        self.engine.close()

    def abandon(self) -> None:
        """See ``Resettable``."""
        self.engine.close(reset=True)
