"""The seam between networks and whatever executes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]
RuntimeName = Literal["openvino", "onnxruntime"]
"""Of those that run any graph, float32 in and out."""
EngineName = Literal["tensorrt", "tensorrt-rtx"]
"""Of those that run plans, built for one card."""
LiveName = RuntimeName | EngineName
Precision = Literal["f32", "bf16", "int8"]
"""int8: of a graph that was quantised (``engines.int8``); its inputs and outputs are float32."""
LivePrecision = Precision | Literal["f16"]


class Runtime(Protocol):
    """One loaded network with fixed shapes.

    ``run`` may reuse its output arrays: they belong to the runtime until the next call; copy what must live longer.
    A runtime is used from one thread at a time. ``close`` may be called twice.
    """

    name: RuntimeName
    precision: Precision
    inputs: Mapping[str, tuple[int, ...]]
    """Input name -> static shape."""
    outputs: Mapping[str, tuple[int, ...]]
    """Output name -> static shape."""

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Execute once. ``feeds`` are C-contiguous float32 of the stated shapes. Raises RuntimeFailure."""
        ...

    def close(self) -> None:
        """Free the network."""
        ...


@runtime_checkable
class LiveRuntime(Protocol):
    """One persona's network from bytes to bytes: what the live path calls once a frame.

    Conversion and layout are inside, so that an engine on a graphics card is sent a quarter of the bytes. Used from one
    thread at a time, except ``calibrate``; ``close`` may be called twice.
    """

    @property
    def name(self) -> LiveName:
        """What computes now."""
        ...

    @property
    def precision(self) -> LivePrecision:
        """In what it computes."""
        ...

    crop_size: int
    """S: side of the crops that ``swap`` takes."""
    swap_size: int
    """T: side of the pictures that it gives."""

    def swap(self, crop: Bytes, points: Array | None) -> tuple[Bytes, Bytes]:
        """(S, S, 3) BGR crop and (P, 2) mesh points, or None -> (T, T, 3) BGR picture and (T, T) mask.

        Both belong to the runtime until the next call. Points are ignored by a network that takes none. Raises
        RuntimeFailure; with kind ``bad_output`` when the network gave numbers that are not finite.
        """
        ...

    def calibrate(self, gain: Array, shift: Array) -> None:
        """(C,) each: the wearer's calibration from the next swap on. May be called from any thread."""
        ...

    def close(self) -> None:
        """Free the network."""
        ...


@runtime_checkable
class Morphs(Protocol):
    """A ``LiveRuntime`` of a network that may be an imported AMP model."""

    def morph(self, value: float) -> None:
        """0..1, how much of the persona, from the next swap on; a network without a morph ignores it.

        May be called from any thread.
        """
        ...


@runtime_checkable
class Resettable(Protocol):
    """A runtime on a card that can be lost."""

    def abandon(self) -> None:
        """Close it, and clear away whatever else this process has on the lost card."""
        ...
