"""The swapper on a network whose answer is known, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import DataError, RuntimeFailure
from engines.mesh_subset import MESH_SUBSET
from engines.persona import Persona, PersonaStore, read_persona
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeName
from engines.types import AlignedFace
from engines.wearer import WearerCalibration
from realtime.swap import Swapper
from tests.onnx_models import C, S, T, affine, manifest, swap_model, write


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


# ---- mesh points and calibration -------------------------------------------------------------------------------------


class RecordingRuntime:
    """Takes what a persona with points and calibration takes, keeps a copy of it, and gives grey."""

    name: RuntimeName = "onnxruntime"
    precision = "f32"

    def __init__(self, persona: Persona) -> None:
        self.inputs, self.outputs = persona.manifest.network_inputs(), persona.manifest.network_outputs()
        self.feeds: dict[str, np.ndarray] = {}
        self.addresses: list[dict[str, int]] = []

    def run(self, feeds):
        assert {name: array.shape for name, array in feeds.items()} == self.inputs
        assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in feeds.values())
        self.feeds = {name: array.copy() for name, array in feeds.items()}
        self.addresses.append({name: array.ctypes.data for name, array in feeds.items()})
        return {name: np.full(shape, 0.5, np.float32) for name, shape in self.outputs.items()}

    def close(self) -> None: ...


def made(**fields: object) -> tuple[Swapper, RecordingRuntime]:
    persona = Persona(manifest(**fields), b"", None, {}, "", Path("ada.persona"), None)
    runtime = RecordingRuntime(persona)
    return Swapper(persona, runtime), runtime


def with_points(points: np.ndarray | None) -> AlignedFace:
    return AlignedFace(0, aligned().pixels, np.eye(2, 3), None, points)


def test_points_reach_the_network_and_are_absent_without_a_mesh() -> None:
    swapper, runtime = made(mesh_points=127)
    points = np.random.default_rng(0).random((127, 2), np.float32)
    for given in (points, None, points):
        swapper.swap(with_points(given))
        assert runtime.feeds["present"].item() == (given is not None)
        if given is not None:
            np.testing.assert_array_equal(runtime.feeds["points"][0], points)
    assert runtime.addresses[0] == runtime.addresses[1] == runtime.addresses[2]  # no buffer is made anew
    with pytest.raises(RuntimeFailure, match="mesh points"):
        swapper.swap(with_points(points[:126]))


def test_a_persona_without_points_ignores_them() -> None:
    swapper, runtime = made()
    swapper.swap(with_points(np.zeros((len(MESH_SUBSET), 2), np.float32)))
    assert set(runtime.feeds) == {"face"}


def test_calibration_reaches_the_network_and_can_be_taken_back() -> None:
    swapper, runtime = made(code_calibration=True, encoder_sha256="a" * 64)
    gain, shift = np.random.default_rng(0).uniform(0.5, 1.5, (2, C)).astype(np.float32)
    for wearer in (None, WearerCalibration(gain, shift), WearerCalibration(gain, shift, "a" * 64), None):
        swapper.calibrate(wearer)
        swapper.swap(aligned())
        np.testing.assert_array_equal(runtime.feeds["code_gain"], np.ones((1, C)) if wearer is None else gain[None])
        np.testing.assert_array_equal(runtime.feeds["code_shift"], np.zeros((1, C)) if wearer is None else shift[None])
    fresh, runtime = made(code_calibration=True)
    fresh.swap(aligned())
    np.testing.assert_array_equal(runtime.feeds["code_gain"], 1)
    np.testing.assert_array_equal(runtime.feeds["code_shift"], 0)


def test_a_calibration_of_something_else_is_refused(persona: Persona) -> None:
    ones, zeros = np.ones(C, np.float32), np.zeros(C, np.float32)
    swapper, _ = made(code_calibration=True, encoder_sha256="a" * 64)
    with pytest.raises(DataError, match="not of the encoder"):
        swapper.calibrate(WearerCalibration(ones, zeros, "b" * 64))
    with pytest.raises(DataError, match="not of the encoder"):
        swapper.calibrate(WearerCalibration(ones[1:], zeros[1:]))
    old = Swapper(persona, open_runtime(persona.swap_onnx))
    old.calibrate(None)
    with pytest.raises(DataError, match="takes no calibration"):
        old.calibrate(WearerCalibration(ones, zeros))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_shipped_personas_run(name: RuntimeName) -> None:
    """Files of every age: those that take the face alone as well."""
    folder = Path(__file__).parents[2] / "realtime" / "personas"
    for path in PersonaStore([folder]).list():
        persona = read_persona(path)
        swapper = Swapper(persona, open_runtime(persona.swap_onnx, prefer=[name]))
        pixels = np.random.default_rng(0).integers(0, 256, (swapper.crop_size, swapper.crop_size, 3), np.uint8)
        swap = swapper.swap(AlignedFace(0, pixels, np.eye(2, 3)))
        assert swap.pixels.std() > 5
