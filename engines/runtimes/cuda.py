"""The few calls of the CUDA driver that the live path needs: one card, one context, memory, streams, graphs.

Straight to the driver library, so that neither torch nor a CUDA toolkit is needed: through cuda-bindings where that is
installed, else through ctypes. Every call is checked, and every failure is a ``DeviceError`` of a kind that the caller
can act on. Calls release the interpreter lock while they wait.

The primary context is the one that TensorRT's own runtime uses as well. A context is current per thread: whoever calls
from another thread calls :meth:`Cuda.use` there first.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from engines.errors import DeviceError, DeviceFault
from engines.types import U8

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on meanwhile
_NAME_BYTES = 256

_INT, _UINT, _POINTER = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
_SIZE, _U64 = ctypes.c_size_t, ctypes.c_uint64


@dataclass(frozen=True, slots=True)
class _Signature:
    """One call: what goes in, what comes out; in C the results come first unless ``results_last``."""

    symbol: str
    takes: tuple[Any, ...] = ()
    gives: tuple[Any, ...] = ()
    results_last: bool = False


CALLS: dict[str, _Signature] = {
    "cuInit": _Signature("cuInit", (_UINT,)),
    "cuDriverGetVersion": _Signature("cuDriverGetVersion", (), (_INT,)),
    "cuDeviceGetCount": _Signature("cuDeviceGetCount", (), (_INT,)),
    "cuDeviceGet": _Signature("cuDeviceGet", (_INT,), (_INT,)),
    "cuDeviceGetAttribute": _Signature("cuDeviceGetAttribute", (_INT, _INT), (_INT,)),
    "cuDevicePrimaryCtxRetain": _Signature("cuDevicePrimaryCtxRetain", (_INT,), (_POINTER,)),
    "cuDevicePrimaryCtxRelease": _Signature("cuDevicePrimaryCtxRelease_v2", (_INT,)),
    "cuDevicePrimaryCtxReset": _Signature("cuDevicePrimaryCtxReset_v2", (_INT,)),
    "cuCtxSetCurrent": _Signature("cuCtxSetCurrent", (_POINTER,)),
    "cuMemGetInfo": _Signature("cuMemGetInfo_v2", (), (_SIZE, _SIZE)),
    "cuMemAlloc": _Signature("cuMemAlloc_v2", (_SIZE,), (_U64,)),
    "cuMemFree": _Signature("cuMemFree_v2", (_U64,)),
    "cuMemAllocHost": _Signature("cuMemAllocHost_v2", (_SIZE,), (_POINTER,)),
    "cuMemFreeHost": _Signature("cuMemFreeHost", (_POINTER,)),
    "cuMemcpyHtoDAsync": _Signature("cuMemcpyHtoDAsync_v2", (_U64, _POINTER, _SIZE, _POINTER)),
    "cuMemcpyDtoHAsync": _Signature("cuMemcpyDtoHAsync_v2", (_POINTER, _U64, _SIZE, _POINTER)),
    "cuStreamCreate": _Signature("cuStreamCreate", (_UINT,), (_POINTER,)),
    "cuStreamDestroy": _Signature("cuStreamDestroy_v2", (_POINTER,)),
    "cuStreamSynchronize": _Signature("cuStreamSynchronize", (_POINTER,)),
    "cuEventCreate": _Signature("cuEventCreate", (_UINT,), (_POINTER,)),
    "cuEventDestroy": _Signature("cuEventDestroy_v2", (_POINTER,)),
    "cuEventRecord": _Signature("cuEventRecord", (_POINTER, _POINTER)),
    "cuEventSynchronize": _Signature("cuEventSynchronize", (_POINTER,)),
    "cuEventElapsedTime": _Signature("cuEventElapsedTime", (_POINTER, _POINTER), (ctypes.c_float,)),
    "cuStreamBeginCapture": _Signature("cuStreamBeginCapture_v2", (_POINTER, _INT)),
    "cuStreamEndCapture": _Signature("cuStreamEndCapture", (_POINTER,), (_POINTER,), results_last=True),
    "cuGraphInstantiate": _Signature("cuGraphInstantiateWithFlags", (_POINTER, ctypes.c_ulonglong), (_POINTER,)),
    "cuGraphDestroy": _Signature("cuGraphDestroy", (_POINTER,)),
    "cuGraphExecDestroy": _Signature("cuGraphExecDestroy", (_POINTER,)),
    "cuGraphLaunch": _Signature("cuGraphLaunch", (_POINTER, _POINTER)),
}
"""All that is used of the driver, under the names of its documentation."""

_OUT_OF_MEMORY = frozenset({2})
_MISSING = frozenset({34, 35, 100, 101, 102})  # stub library, old driver, no device, invalid device, not licensed
_LOST = frozenset({4, 46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999})
"""After these the context answers every call with an error: memory faults, time-outs, memory that cannot be corrected,
a card that fell off the bus. Named in the driver's documentation as those that end the process's use of the card."""
_HINTS: dict[DeviceFault, str] = {
    "lost": "another runtime goes on; restart the program, and see the driver's log if it comes again",
    "out_of_memory": "close other programs that use the card, or wear a smaller tier",
    "driver": "update the NVIDIA driver, or use --runtime openvino",
    "missing": "install the NVIDIA driver, or use --runtime openvino",
}


def device_error(code: int, where: str, name: str) -> DeviceError:
    """The error for the driver's ``code`` (CUresult) out of the call ``where``."""
    kind: DeviceFault = "driver"
    if code in _OUT_OF_MEMORY:
        kind = "out_of_memory"
    elif code in _LOST:
        kind = "lost"
    elif code in _MISSING:
        kind = "missing"
    words = {
        "lost": "the graphics card was lost",
        "out_of_memory": "the graphics card's memory is used up",
        "driver": "the graphics driver failed",
        "missing": "no NVIDIA card can be used",
    }
    return DeviceError(f"{words[kind]} ({name} in {where})", hint=_HINTS[kind], kind=kind)


class Driver(Protocol):
    """The driver library, one call at a time. Tests bring their own."""

    def call(self, name: str, *arguments: int) -> tuple[int, tuple[Any, ...]]:
        """The call of ``CALLS``; returns its CUresult and its results as plain numbers."""
        ...

    def device_name(self, device: int) -> str:
        """The card's name."""
        ...

    def error_name(self, code: int) -> str:
        """The driver's own word for a CUresult."""
        ...


class CtypesDriver:
    """The driver library through ctypes. Raises DeviceError of kind ``missing`` where it cannot be loaded."""

    def __init__(self, library: Any = None) -> None:
        self._library = _load_library() if library is None else library
        self._functions: dict[str, Any] = {}
        for name, signature in CALLS.items():
            try:
                function = getattr(self._library, signature.symbol)
            except AttributeError as error:
                raise DeviceError(
                    f"the graphics driver has no {signature.symbol}", hint="update the NVIDIA driver", kind="missing"
                ) from error
            results = [ctypes.POINTER(kind) for kind in signature.gives]
            taken = list(signature.takes)
            function.argtypes = taken + results if signature.results_last else results + taken
            function.restype = _INT
            self._functions[name] = function

    def call(self, name: str, *arguments: int) -> tuple[int, tuple[Any, ...]]:
        """See ``Driver``."""
        signature = CALLS[name]
        results = [kind() for kind in signature.gives]
        places = [ctypes.byref(result) for result in results]
        every = [*arguments, *places] if signature.results_last else [*places, *arguments]
        code = self._functions[name](*every)
        return code, tuple(result.value or 0 for result in results)

    def device_name(self, device: int) -> str:
        """See ``Driver``."""
        text = ctypes.create_string_buffer(_NAME_BYTES)
        code = self._library.cuDeviceGetName(text, _INT(_NAME_BYTES), _INT(device))
        return text.value.decode(errors="replace") if code == 0 else "NVIDIA card"

    def error_name(self, code: int) -> str:
        """See ``Driver``."""
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(_INT(code), ctypes.byref(text))
        return (text.value or f"error {code}".encode()).decode(errors="replace")


class BindingsDriver:
    """The driver through the package cuda-bindings."""

    _ENUMS = (
        ("cuDeviceGetAttribute", 0, "CUdevice_attribute"),
        ("cuStreamBeginCapture", 1, "CUstreamCaptureMode"),
    )

    def __init__(self, package: ModuleType) -> None:
        """``package`` is ``cuda.bindings.driver``."""
        self._package = package
        self._enums = {(name, at): getattr(package, kind) for name, at, kind in self._ENUMS}
        # The packages of CUDA 11 keep the old call, which takes a log, under the short name.
        flags = "cuGraphInstantiateWithFlags"
        self._renamed = {"cuGraphInstantiate": flags} if hasattr(package, flags) else {}

    def call(self, name: str, *arguments: int) -> tuple[int, tuple[Any, ...]]:
        """See ``Driver``."""
        given = [self._enums[name, at](a) if (name, at) in self._enums else a for at, a in enumerate(arguments)]
        try:
            code, *results = getattr(self._package, self._renamed.get(name, name))(*given)
        except RuntimeError as error:  # the package found no driver library, or one without this call
            raise DeviceError(f"no NVIDIA driver: {error}", hint=_HINTS["missing"], kind="missing") from error
        return int(code), tuple(r if isinstance(r, float) else int(r or 0) for r in results)

    def device_name(self, device: int) -> str:
        """See ``Driver``."""
        code, raw = self._package.cuDeviceGetName(_NAME_BYTES, device)
        return bytes(raw).split(b"\0")[0].decode(errors="replace") if int(code) == 0 else "NVIDIA card"

    def error_name(self, code: int) -> str:
        """See ``Driver``."""
        try:
            return str(self._package.CUresult(code).name)
        except ValueError:
            return f"error {code}"


def _load_library() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    loader: Callable[[str], Any] = getattr(ctypes, "WinDLL", ctypes.CDLL)
    try:
        return loader(name)
    except OSError as error:
        raise DeviceError(f"there is no NVIDIA driver ({name})", hint=_HINTS["missing"], kind="missing") from error


def open_driver() -> Driver:
    """cuda-bindings if installed, else ctypes. Raises DeviceError of kind ``missing`` where there is no driver."""
    library = _load_library()  # asked first: the package only says so at the first call
    try:
        package = importlib.import_module("cuda.bindings.driver")
    except ImportError:
        return CtypesDriver(library)
    return BindingsDriver(package)


@dataclass(frozen=True, slots=True)
class Card:
    """What a plan is built for."""

    name: str
    compute: tuple[int, int]
    """Compute capability, (8, 9) for an RTX 4090."""
    driver: int
    """The newest CUDA that the driver knows, as 1000 * major + 10 * minor: 13000 for CUDA 13.0."""
    memory_bytes: int

    @property
    def sm(self) -> str:
        """The compute capability as ``8.9``."""
        return f"{self.compute[0]}.{self.compute[1]}"


class Pinned:
    """Page-locked host memory: copies to and from the card run without a detour. Lives while an array looks at it."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        (self.address,) = cuda.call("cuMemAllocHost", max(size, 1))
        self.size = size
        self._free = weakref.finalize(self, _free_pinned, cuda, self.address)
        self._free.atexit = False  # the driver may be gone by then; the memory goes with the process
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (self.address, False)}

    def array(self) -> U8:
        """(size,) bytes; whoever holds it or a view of it keeps the memory."""
        return np.asarray(self)


def _free_pinned(cuda: Cuda, address: int) -> None:
    if cuda.alive:
        with contextlib.suppress(DeviceError):
            cuda.use()
            cuda.call("cuMemFreeHost", address)


def _release(driver: Driver, device: int) -> None:
    driver.call("cuDevicePrimaryCtxRelease", device)


class Cuda:
    """One card and its primary context, held until nobody uses this object or its pinned memory. Raises DeviceError."""

    def __init__(self, driver: Driver | None = None, ordinal: int = 0) -> None:
        self._driver = open_driver() if driver is None else driver
        self.call("cuInit", 0)
        (count,) = self.call("cuDeviceGetCount")
        if count <= ordinal:
            raise DeviceError(f"there are {count} NVIDIA cards", hint=_HINTS["missing"], kind="missing")
        (self._device,) = self.call("cuDeviceGet", ordinal)
        (version,) = self.call("cuDriverGetVersion")
        compute = tuple(
            self.call("cuDeviceGetAttribute", which, self._device)[0] for which in (_COMPUTE_MAJOR, _COMPUTE_MINOR)
        )
        (self._context,) = self.call("cuDevicePrimaryCtxRetain", self._device)
        self._release = weakref.finalize(self, _release, self._driver, self._device)
        self._release.atexit = False
        self._users = threading.local()
        self.use()
        _, total = self.call("cuMemGetInfo")
        name = self._driver.device_name(self._device)
        self.card = Card(name, (compute[0], compute[1]), version, total)

    def call(self, name: str, *arguments: int) -> tuple[Any, ...]:
        """One call of the driver, checked. Raises DeviceError."""
        code, results = self._driver.call(name, *arguments)
        if code:
            raise device_error(code, name, self._driver.error_name(code))
        return results

    def use(self) -> None:
        """Make the context current in this thread; where it is already, this costs nothing."""
        if not getattr(self._users, "current", False):
            self.call("cuCtxSetCurrent", self._context)
            self._users.current = True

    def pinned(self, size: int) -> Pinned:
        """``size`` bytes of page-locked host memory."""
        return Pinned(self, size)

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes on the card, aligned to 256 bytes at least."""
        return int(self.call("cuMemAlloc", max(size, 1))[0])

    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` gave."""
        self.call("cuMemFree", address)

    def stream(self) -> int:
        """A stream of its own."""
        return int(self.call("cuStreamCreate", _NON_BLOCKING)[0])

    def event(self) -> int:
        """An event that takes the time."""
        return int(self.call("cuEventCreate", 0)[0])

    def elapsed_ms(self, first: int, second: int) -> float:
        """Between two recorded events, by the card's own clock; waits for the second."""
        self.call("cuEventSynchronize", second)
        return float(self.call("cuEventElapsedTime", first, second)[0])

    def upload(self, to: int, source: int, size: int, stream: int) -> None:
        """Pinned memory to the card, in the stream's order."""
        self.call("cuMemcpyHtoDAsync", to, source, size, stream)

    def download(self, to: int, source: int, size: int, stream: int) -> None:
        """The card to pinned memory, in the stream's order."""
        self.call("cuMemcpyDtoHAsync", to, source, size, stream)

    def wait(self, stream: int) -> None:
        """Until everything in the stream is done. Failures of earlier work come out here."""
        self.call("cuStreamSynchronize", stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """``work``'s calls on ``stream`` as one executable graph, without running them."""
        with self._capturing(stream) as graphs:
            work()
        try:
            return int(self.call("cuGraphInstantiate", graphs[0], 0)[0])
        finally:
            self.call("cuGraphDestroy", graphs[0])

    @contextmanager
    def _capturing(self, stream: int) -> Iterator[list[int]]:
        graphs: list[int] = []
        self.call("cuStreamBeginCapture", stream, _THREAD_LOCAL)
        try:
            yield graphs
        except BaseException:
            # The stream must leave capture mode whatever happened; the first failure is the one to report.
            with contextlib.suppress(DeviceError):
                (broken,) = self.call("cuStreamEndCapture", stream)
                if broken:
                    self.call("cuGraphDestroy", broken)
            raise
        graphs.append(int(self.call("cuStreamEndCapture", stream)[0]))

    def launch(self, graph: int, stream: int) -> None:
        """Run a captured graph."""
        self.call("cuGraphLaunch", graph, stream)

    @property
    def alive(self) -> bool:
        """Whether the context was not reset."""
        return self._release.alive

    def reset(self) -> None:
        """Destroy the context and everything in it, of other engines as well: how a process gets rid of a lost one."""
        if self._release.alive:
            with contextlib.suppress(DeviceError):
                self.call("cuDevicePrimaryCtxReset", self._device)
            self._release()


def find_card(driver: Driver | None = None) -> Card | None:
    """The first NVIDIA card, or None where there is none that can be used."""
    try:
        return Cuda(driver).card
    except DeviceError:
        return None
