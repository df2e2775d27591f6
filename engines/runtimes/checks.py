"""What every runtime checks in the same words: shapes of a network, and the arrays fed to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engines.errors import RuntimeFailure
from engines.runtimes.base import Array


def static_shape(name: str, dims: Sequence[object]) -> tuple[int, ...]:
    """``dims`` as a shape. Raises RuntimeFailure when one of them is unknown, symbolic or not positive."""
    shape = tuple(d for d in dims if isinstance(d, int) and d > 0)
    if len(shape) != len(dims):
        raise RuntimeFailure(
            f"{name} has the shape {list(dims)}, which is not fixed", hint="export the network with static shapes"
        )
    return shape


def check_feeds(inputs: Mapping[str, tuple[int, ...]], feeds: Mapping[str, Array]) -> None:
    """Raises RuntimeFailure unless ``feeds`` are exactly the inputs, C-contiguous float32 of the right shapes."""
    if feeds.keys() != inputs.keys():
        raise RuntimeFailure(
            f"the network takes {sorted(inputs)}, but was given {sorted(feeds)}",
            hint="feed exactly the network's inputs",
        )
    for name, shape in inputs.items():
        array = feeds[name]
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise RuntimeFailure(
                f"input {name} must be a float32 array, not {getattr(array, 'dtype', type(array).__name__)}",
                hint="convert it with numpy.ascontiguousarray(x, numpy.float32)",
            )
        if array.shape != shape or not array.flags.c_contiguous:
            raise RuntimeFailure(
                f"input {name} must be contiguous of shape {shape}, not {array.shape}",
                hint="crop or resize to the network's input, then numpy.ascontiguousarray",
            )
