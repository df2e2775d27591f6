"""The seam between networks and whatever executes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
RuntimeName = Literal["openvino", "onnxruntime"]
Precision = Literal["f32", "bf16"]


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
