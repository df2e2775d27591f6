"""A graphics card of numpy: a driver that queues work until somebody waits for it, and a TensorRT that uses it.

Memory on the "card" is ordinary memory at its own addresses, so what was not copied is not there. Work in a stream
happens when the stream is waited for and not before: whoever reads too early reads old numbers. As in the real driver,
a thread in which no context was made current gets CUDA_ERROR_INVALID_CONTEXT, and memory made while a stream is being
captured breaks the capture.
"""

from __future__ import annotations

import ctypes
import json
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

OOM, NO_DEVICE, ILLEGAL_ADDRESS, INVALID_VALUE = 2, 100, 700, 1
INVALID_CONTEXT, CAPTURE_UNSUPPORTED = 201, 900
NAMES = {
    OOM: "CUDA_ERROR_OUT_OF_MEMORY",
    NO_DEVICE: "CUDA_ERROR_NO_DEVICE",
    ILLEGAL_ADDRESS: "CUDA_ERROR_ILLEGAL_ADDRESS",
    INVALID_CONTEXT: "CUDA_ERROR_INVALID_CONTEXT",
    CAPTURE_UNSUPPORTED: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}
CONTEXT, DEVICE = 0xC0DE, 0
WITHOUT_CONTEXT = ("cuInit", "cuDriver", "cuDevice", "cuCtxSetCurrent")
ALLOCATES = frozenset({"cuMemAlloc", "cuMemFree", "cuMemAllocHost", "cuMemFreeHost"})


class FakeDriver:
    """See ``engines.runtimes.cuda.Driver``."""

    def __init__(self, *, cards: int = 1, compute: tuple[int, int] = (8, 9)) -> None:
        self.cards, self.compute = cards, compute
        self.calls: list[str] = []
        self.fail: dict[str, int] = {}
        """Call -> CUresult that it gives from now on."""
        self.lost = False
        self.contexts = 0
        self.resets = 0
        self.device: dict[int, Any] = {}
        self.host: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self._handle = 100
        self._current = threading.local()

    # ---- what tests ask ----

    def count(self) -> Counter[str]:
        return Counter(self.calls)

    def leaks(self) -> dict[str, int]:
        kinds = {"device": self.device, "host": self.host, "streams": self.streams, "graphs": self.graphs}
        return {name: len(things) for name, things in kinds.items() if things}

    # ---- the protocol ----

    def device_name(self, device: int) -> str:
        return "Fake 4090"

    def error_name(self, code: int) -> str:
        return NAMES.get(code, f"error {code}")

    def call(self, name: str, *arguments: int) -> tuple[int, tuple[Any, ...]]:
        self.calls.append(name)
        signature_gives = {"cuMemGetInfo": 2}.get(name, 1)
        if name in self.fail:
            return self.fail[name], (0,) * signature_gives
        if self.lost and name not in {"cuDevicePrimaryCtxReset", "cuDevicePrimaryCtxRelease"}:
            return ILLEGAL_ADDRESS, (0,) * signature_gives
        if not name.startswith(WITHOUT_CONTEXT) and getattr(self._current, "context", 0) != CONTEXT:
            return INVALID_CONTEXT, (0,) * signature_gives
        if self.capturing is not None and name in ALLOCATES:
            return CAPTURE_UNSUPPORTED, (0,) * signature_gives
        result = getattr(self, name)(*arguments)
        return 0, result if isinstance(result, tuple) else () if result is None else (result,)

    def cuInit(self, flags):
        return None

    def cuDriverGetVersion(self):
        return 12080

    def cuDeviceGetCount(self):
        return self.cards

    def cuDeviceGet(self, ordinal):
        return DEVICE

    def cuDeviceGetAttribute(self, which, device):
        return {75: self.compute[0], 76: self.compute[1]}[which]

    def cuDevicePrimaryCtxRetain(self, device):
        self.contexts += 1
        return CONTEXT

    def cuDevicePrimaryCtxRelease(self, device):
        self.contexts -= 1

    def cuDevicePrimaryCtxReset(self, device):
        self.resets += 1
        self.lost = False
        for things in (self.device, self.host, self.streams, self.graphs):
            things.clear()

    def cuCtxSetCurrent(self, context):
        assert context == CONTEXT
        self._current.context = context

    def cuMemGetInfo(self):
        return 20 << 30, 24 << 30

    def _memory(self, where: dict[int, Any], size: int) -> int:
        block = ctypes.create_string_buffer(size + 512)
        address = -(-ctypes.addressof(block) // 512) * 512
        where[address] = block
        return address

    def cuMemAlloc(self, size):
        return self._memory(self.device, size)

    def cuMemAllocHost(self, size):
        return self._memory(self.host, size)

    def cuMemFree(self, address):
        del self.device[address]

    def cuMemFreeHost(self, address):
        del self.host[address]

    def _new(self, where: dict[int, Any], thing: Any) -> int:
        self._handle += 1
        where[self._handle] = thing
        return self._handle

    def cuStreamCreate(self, flags):
        return self._new(self.streams, [])

    def cuStreamDestroy(self, stream):
        del self.streams[stream]

    def cuStreamSynchronize(self, stream):
        assert self.capturing is None, "a stream that is captured cannot be waited for"
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()

    def enqueue(self, stream: int, step: Callable[[], None]) -> None:
        if self.capturing is not None:
            self.capturing.append(step)
        else:
            self.streams[stream].append(step)

    def cuMemcpyHtoDAsync(self, to, source, size, stream):
        assert any(a <= source < a + len(b) for a, b in self.host.items()), "not pinned"
        self.enqueue(stream, lambda: ctypes.memmove(to, source, size))

    def cuMemcpyDtoHAsync(self, to, source, size, stream):
        assert any(a <= to < a + len(b) for a, b in self.host.items()), "not pinned"
        self.enqueue(stream, lambda: ctypes.memmove(to, source, size))

    def cuStreamBeginCapture(self, stream, mode):
        assert mode == 1
        self.capturing = []

    def cuStreamEndCapture(self, stream):
        steps, self.capturing = self.capturing, None
        return self._new(self.graphs, steps)

    def cuGraphInstantiate(self, graph, flags):
        return self._new(self.graphs, list(self.graphs[graph]))

    def cuGraphDestroy(self, graph):
        del self.graphs[graph]

    def cuGraphExecDestroy(self, graph):
        del self.graphs[graph]

    def cuGraphLaunch(self, graph, stream):
        for step in self.graphs[graph]:
            self.enqueue(stream, step)


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Mode(Enum):
    INPUT, OUTPUT = range(2)


class DataType(Enum):
    FLOAT, UINT8, BF16 = range(3)


class ILogger:
    INTERNAL_ERROR, ERROR = Severity.INTERNAL_ERROR, Severity.ERROR

    def log(self, severity: Any, message: str) -> None: ...


def fake_plan(s: int = 8, t: int = 16, c: int = 4, *, points: int = 0, calibrated: bool = False) -> bytes:
    """A "plan": pixels = the crop enlarged, mask = 255 - red, code = the first blue bytes * gain + shift."""
    return json.dumps({"s": s, "t": t, "c": c, "points": points, "calibrated": calibrated}).encode()


class FakeContext:
    def __init__(self, trt: FakeTensorRt, engine: FakeEngine) -> None:
        self.trt, self.engine = trt, engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address % 256 == 0
        self.addresses[name] = address
        return True

    def array(self, name: str) -> np.ndarray:
        shape, dtype, _ = self.engine.tensors[name]
        dtype = {DataType.FLOAT: np.float32, DataType.UINT8: np.uint8}[dtype]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = (ctypes.c_ubyte * size).from_address(self.addresses[name])
        return np.frombuffer(raw, np.uint8).view(dtype).reshape(shape)

    def execute_async_v3(self, stream: int) -> bool:
        self.trt.enqueued += 1
        if self.trt.refuse:
            self.trt.logger.log(Severity.ERROR, self.trt.refuse)
            return False
        if self.trt.refuse_capture and self.trt.driver.capturing is not None:
            self.trt.logger.log(Severity.ERROR, "operation not permitted when stream is capturing")
            return False
        self.trt.driver.enqueue(stream, self.compute)
        return True

    def compute(self) -> None:
        self.trt.computed += 1
        if isinstance(self.engine, OrtEngine):
            names = [name for name, (_, _, mode) in self.engine.tensors.items() if mode is Mode.OUTPUT]
            feeds = {name: self.array(name) for name in self.engine.tensors if name not in names}
            for name, value in zip(names, self.engine.session.run(names, feeds), strict=True):
                self.array(name)[...] = value
            return
        crop = self.array("crop")[0]
        factor = self.engine.spec["t"] // len(crop)
        big = crop.repeat(factor, 0).repeat(factor, 1)
        self.array("pixels")[0] = big
        self.array("mask")[...] = 255 - big[..., 2]
        code = crop[..., 0].ravel()[: self.engine.spec["c"]].astype(np.float32)
        if "code_gain" in self.engine.tensors:
            code = code * self.array("code_gain")[0] + self.array("code_shift")[0]
        if "points" in self.engine.tensors:
            code[0] = self.array("points").sum()
            code[1] = self.array("present")[0, 0]
        self.array("code")[0] = np.nan if self.trt.overflow else code


class FakeEngine:
    def __init__(self, trt: FakeTensorRt, spec: dict[str, Any]) -> None:
        self.trt, self.spec = trt, spec
        s, t, c = spec["s"], spec["t"], spec["c"]
        tensors: dict[str, tuple[tuple[int, ...], DataType, Mode]] = {
            "crop": ((1, s, s, 3), DataType.UINT8, Mode.INPUT),
            "pixels": ((1, t, t, 3), DataType.UINT8, Mode.OUTPUT),
            "mask": ((1, t, t), DataType.UINT8, Mode.OUTPUT),
            "code": ((1, c), spec.get("code_type", DataType.FLOAT), Mode.OUTPUT),
        }
        if spec["points"]:
            tensors["points"] = ((1, spec["points"], 2), DataType.FLOAT, Mode.INPUT)
            tensors["present"] = ((1, 1), DataType.FLOAT, Mode.INPUT)
        if spec["calibrated"]:
            tensors["code_gain"] = tensors["code_shift"] = ((1, c), DataType.FLOAT, Mode.INPUT)
        self.tensors = tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_shape(self, name):
        return self.tensors[name][0]

    def get_tensor_dtype(self, name):
        return self.tensors[name][1]

    def get_tensor_mode(self, name):
        return self.tensors[name][2]

    def create_execution_context(self):
        return None if self.trt.no_context else self.trt._watched("context", FakeContext(self.trt, self))


class FakeRuntime:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.deserialize_cuda_engine = trt._deserialize


class OrtEngine(FakeEngine):
    """A "plan" that is a live graph: ONNX Runtime computes it, on the card's memory."""

    def __init__(self, trt: FakeTensorRt, graph: bytes) -> None:
        import onnxruntime

        self.trt, self.spec = trt, {}
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8}
        sides = (self.session.get_inputs(), Mode.INPUT), (self.session.get_outputs(), Mode.OUTPUT)
        self.tensors = {v.name: (tuple(v.shape), kinds[v.type], mode) for values, mode in sides for v in values}
        self.num_io_tensors = len(self.tensors)


class FakeTensorRt(SimpleNamespace):
    """The package, as far as it is used. Put it into ``sys.modules``."""

    __hash__ = object.__hash__
    __spec__ = "found"
    ILogger, TensorIOMode, DataType = ILogger, Mode, DataType
    __version__ = "10.0.0"

    def __init__(self, driver: FakeDriver) -> None:
        super().__init__(driver=driver, enqueued=0, computed=0, overflow=False, refuse="", refuse_capture=False)
        self.no_context, self.logger = False, None

    def Runtime(self, logger):
        self.logger = logger
        return self._watched("runtime", FakeRuntime(self))

    def _watched(self, name: str, thing: Any) -> Any:
        def gone() -> None:
            self.driver.calls.append(f"~{name}")

        weakref.finalize(thing, gone).atexit = False
        return thing

    def _deserialize(self, plan):
        if len(plan) > 4096:
            return self._watched("engine", OrtEngine(self, plan))
        try:
            return self._watched("engine", FakeEngine(self, json.loads(plan)))
        except ValueError:
            self.logger.log(Severity.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: magicTag mismatch\nmore")
            return None
