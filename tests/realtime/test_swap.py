"""The swapper on a network whose answer is known, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import RuntimeFailure
from engines.persona import Persona, read_persona
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeName
from engines.types import AlignedFace
from realtime.swap import Swapper
from tests.onnx_models import S, T, affine, swap_model, write


@pytest.fixture
def persona(tmp_path: Path) -> Persona:
    return read_persona(write(tmp_path / "ada.persona"))


def aligned(seed: int = 0) -> AlignedFace:
    pixels = np.random.default_rng(seed).integers(0, 256, (S, S, 3), np.uint8)
    return AlignedFace(5, pixels, np.eye(2, 3))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_known_answer(persona: Persona, name: RuntimeName) -> None:
    """The network enlarges the face and gives 1 - red as mask: colours must come back in order, nothing mirrored."""
    swapper = Swapper(persona, open_runtime(persona.swap_onnx, prefer=[name]))
    assert (swapper.crop_size, swapper.swap_size) == (S, T)
    for seed in range(3):
        face = aligned(seed)
        swap = swapper.swap(face)
        assert swap.face is face
        large = face.pixels.repeat(T // S, axis=0).repeat(T // S, axis=1)
        np.testing.assert_array_equal(swap.pixels, large)
        np.testing.assert_array_equal(swap.mask, 255 - large[..., 2])


def test_the_arrays_are_reused(persona: Persona) -> None:
    swapper = Swapper(persona, open_runtime(persona.swap_onnx))
    first, second = swapper.swap(aligned(1)), swapper.swap(aligned(2))
    assert first.pixels is second.pixels
    assert first.mask is second.mask
    assert first.pixels.flags.c_contiguous


def test_numbers_that_are_not_finite_never_become_a_picture(persona: Persona) -> None:
    broken = swap_model(scale=np.inf).SerializeToString()  # infinity, and NaN where the face is black
    swapper = Swapper(persona, open_runtime(broken, prefer=["onnxruntime"]))
    with pytest.raises(RuntimeFailure, match="not finite") as caught:
        swapper.swap(aligned())
    assert caught.value.kind == "bad_output"


def test_a_runtime_that_fails(persona: Persona) -> None:
    runtime = open_runtime(persona.swap_onnx)
    swapper = Swapper(persona, runtime)
    runtime.close()
    with pytest.raises(RuntimeFailure) as caught:
        swapper.swap(aligned())
    assert caught.value.kind == "failed"


def test_wrong_network_and_wrong_crop(persona: Persona) -> None:
    with pytest.raises(RuntimeFailure, match="does not fit"):
        Swapper(persona, open_runtime(affine()))
    swapper = Swapper(persona, open_runtime(persona.swap_onnx))
    with pytest.raises(RuntimeFailure, match="aligned face"):
        swapper.swap(AlignedFace(0, np.zeros((S + 1, S, 3), np.uint8), np.eye(2, 3)))
