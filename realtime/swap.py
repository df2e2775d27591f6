"""The persona's face for one aligned face: pixels in, pixels and mask out, through the persona's network.

Two seams: a ``LiveRuntime`` takes and gives bytes itself; around a ``Runtime``, which takes and gives float32,
``PlanarRuntime`` does the conversion.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from engines.crop_square import CropSquare
from engines.errors import ConsentExpiredError, DataError, RuntimeFailure
from engines.persona import Manifest, Persona
from engines.runtimes.base import LiveRuntime, Morphs, Precision, Runtime, RuntimeName
from engines.types import F32, U8, AlignedFace, Swap
from engines.wearer import WearerCalibration
from realtime import kernels


class PlanarRuntime:
    """``LiveRuntime`` over a float32 ``Runtime``, which it closes when it is closed itself."""

    def __init__(self, manifest: Manifest, runtime: Runtime) -> None:
        """``runtime`` runs the persona's ``swap_onnx``. Raises RuntimeFailure when it runs something else."""
        inputs, outputs = manifest.network_inputs(), manifest.network_outputs()
        if dict(runtime.inputs) != inputs or dict(runtime.outputs) != outputs:
            raise RuntimeFailure(
                f"the runtime's network does not fit the persona {manifest.name}", hint="open it from persona.swap_onnx"
            )
        self.name: RuntimeName = runtime.name
        self.precision: Precision = runtime.precision
        self.crop_size = manifest.crop_size
        self.swap_size = manifest.output_size
        self._takes_points = manifest.mesh_points > 0
        self._calibrated = manifest.code_calibration
        self._runtime = runtime
        self._feeds: dict[str, F32] = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
        if self._calibrated:
            self._feeds["code_gain"].fill(1.0)
        if manifest.morph is not None:
            self._feeds["morph"].fill(manifest.morph)
        self._pixels = np.zeros((self.swap_size, self.swap_size, 3), np.uint8)
        self._mask = np.zeros((self.swap_size, self.swap_size), np.uint8)

    def calibrate(self, gain: F32, shift: F32) -> None:
        """See ``LiveRuntime``."""
        if self._calibrated:
            # New arrays in a new dict: a swap in progress keeps the pair that it began with.
            changed = {"code_gain": gain, "code_shift": shift}
            self._feeds = self._feeds | {
                name: np.array(value[None], np.float32, order="C") for name, value in changed.items()
            }

    def morph(self, value: float) -> None:
        """See ``Morphs``."""
        if "morph" in self._feeds:
            self._feeds = self._feeds | {"morph": np.full((1, 1), value, np.float32)}

    def swap(self, crop: U8, points: F32 | None) -> tuple[U8, U8]:
        """See ``LiveRuntime``."""
        feeds = self._feeds
        kernels.bgr_to_planar(crop, feeds["face"])
        if self._takes_points:
            _take_points(points, feeds["points"], feeds["present"])
        outputs = self._runtime.run(feeds)
        faults = kernels.planar_to_bgr(outputs["swap"], outputs["mask"], self._pixels, self._mask)
        if faults:
            raise RuntimeFailure(
                f"the persona's network gave {faults} numbers that are not finite",
                hint="try --precision f32 or --runtime onnxruntime",
                kind="bad_output",
            )
        return self._pixels, self._mask

    def close(self) -> None:
        """See ``LiveRuntime``."""
        self._runtime.close()


class Swapper:
    """Runs a persona's network, and exchanges it for another one between two faces. Owns no runtime."""

    def __init__(self, persona: Persona, runtime: Runtime | LiveRuntime) -> None:
        """``runtime`` runs ``persona.swap_onnx``. Raises RuntimeFailure when it runs something else."""
        self._manifest = persona.manifest
        self._live = _live(persona, runtime)
        self._until = _until(persona)
        self.crop_size = persona.manifest.crop_size
        """S: side of the aligned faces that :meth:`swap` takes."""
        self.swap_size = persona.manifest.output_size
        """T: side of the swaps that it gives."""
        self.square = CropSquare(persona.manifest.crop.side_dm, persona.manifest.crop.centre_dm)
        """What the aligned faces show of the head."""
        self._wearer: WearerCalibration | None = None
        self._strength = 1.0
        self._lock = threading.Lock()
        """Of ``_next``, ``_wearer`` and who is calibrated; never held while a network runs."""
        self._next: tuple[Manifest, LiveRuntime, Callable[[], None]] | None = None

    def calibrate(self, wearer: WearerCalibration | None) -> None:
        """Use this wearer's calibration from the next face on; None: none. May be called from another thread.

        Raises DataError for a calibration of another encoder, and for any where the persona takes none.
        """
        with self._lock:
            manifest, live = self._next[:2] if self._next else (self._manifest, self._live)
            _calibrate(manifest, live, wearer, self._strength)
            self._wearer = wearer

    def express(self, strength: float) -> None:
        """How far the expression leaves the persona's neutral face, 1 as the wearer does, from the next face on.

        The code is stretched or shrunk around the reference of its encoder, so light and pose go along a little: meant
        for 0.7..1.3. No pixel of the wearer is added at any strength. From any thread. Raises DataError where the
        persona has no reference, unless the strength is 1.
        """
        with self._lock:
            manifest, live = self._next[:2] if self._next else (self._manifest, self._live)
            if strength == self._strength:
                return
            _calibrate(manifest, live, self._wearer, strength)
            self._strength = strength

    def morph(self, value: float) -> None:
        """Of an imported AMP model, 0..1: how much of the persona, from the next face on. From any thread.

        Raises DataError for a value outside, and for a persona that has no morph.
        """
        with self._lock:
            manifest, live = self._next[:2] if self._next else (self._manifest, self._live)
            if manifest.morph is None or not isinstance(live, Morphs):
                raise DataError(f"the persona {manifest.name} has no morph", hint="only imported AMP models have one")
            if not 0.0 <= value <= 1.0:
                raise DataError(f"a morph of {value:g}", hint="choose one from 0 to 1")
            live.morph(value)

    def wear(self, persona: Persona, runtime: Runtime | LiveRuntime, exchanged: Callable[[], None]) -> None:
        """Another persona from the next face on. May be called from another thread.

        ``exchanged`` is called then, in the thread of :meth:`swap`: the runtime before is free from there on. The
        wearer's calibration is kept where it is of the same encoder. Raises RuntimeFailure for a network of other
        sizes or one that does not fit the persona.
        """
        live = _live(persona, runtime)
        if (live.crop_size, live.swap_size) != (self.crop_size, self.swap_size):
            raise RuntimeFailure(
                f"{persona.manifest.name} works with other picture sizes than the persona before",
                hint="stop and start with that persona, or choose the same tier",
            )
        if CropSquare(persona.manifest.crop.side_dm, persona.manifest.crop.centre_dm) != self.square:
            raise RuntimeFailure(
                f"{persona.manifest.name} sees another part of the head than the persona before",
                hint="stop and start with that persona",
            )
        with self._lock:
            if self._next is not None:
                raise RuntimeFailure("another persona is being put on already", hint="wait for the next face")
            try:
                _calibrate(persona.manifest, live, self._wearer, self._strength)
            except DataError:
                self._wearer, self._strength = None, 1.0
            self._next = persona.manifest, live, exchanged
            self._until = _until(persona)

    def swap(self, face: AlignedFace) -> Swap:
        """The persona's face. Its arrays belong to the swapper until the next call.

        A network that takes mesh points gets those of ``face``; without them the picture alone decides. Raises
        RuntimeFailure when the network cannot run, and with kind ``bad_output`` when it gave NaN or infinities, and
        ConsentExpiredError once a real person's consent is over.
        """
        if self._until is not None and (time.time() >= self._until[0] or time.monotonic() >= self._until[1]):
            raise ConsentExpiredError(
                "the consent of the person who is worn is over",
                hint="end the run; personacam consent request asks for a new record",
            )
        if face.pixels.shape != (self.crop_size, self.crop_size, 3):
            raise RuntimeFailure(
                f"an aligned face of {face.pixels.shape}, not of side {self.crop_size}",
                hint="align with swapper.crop_size",
            )
        if self._next is not None:
            self._exchange()
        pixels, mask = self._live.swap(face.pixels, face.points)
        return Swap(face, pixels, mask)

    def _exchange(self) -> None:
        with self._lock:
            following, self._next = self._next, None
            if following is None:
                return
            self._manifest, self._live, exchanged = following
        exchanged()


def _until(persona: Persona) -> tuple[float, float] | None:
    """When a real person's consent ends, by the wall clock and, for a clock that is set back, by the monotonic one."""
    if persona.valid_until is None:
        return None
    return persona.valid_until, time.monotonic() + persona.valid_until - time.time()


def _live(persona: Persona, runtime: Runtime | LiveRuntime) -> LiveRuntime:
    """``runtime`` as one that takes and gives bytes. Raises RuntimeFailure when it does not fit the persona."""
    manifest = persona.manifest
    live = runtime if isinstance(runtime, LiveRuntime) else PlanarRuntime(manifest, runtime)
    if (live.crop_size, live.swap_size) != (manifest.crop_size, manifest.output_size):
        raise RuntimeFailure(
            f"the runtime's network does not fit the persona {manifest.name}", hint="open it for this persona"
        )
    return live


def _calibrate(manifest: Manifest, live: LiveRuntime, wearer: WearerCalibration | None, strength: float) -> None:
    """Raises DataError for a calibration of another encoder, and for any where the persona takes none."""
    if wearer is None:
        if manifest.code_calibration:
            ones, zeros = np.ones(manifest.code_size, np.float32), np.zeros(manifest.code_size, np.float32)
            live.calibrate(*_stretched(manifest, ones, zeros, strength))
        elif strength != 1.0:
            raise DataError(f"the expression of {manifest.name} cannot be changed", hint="use a newer file of it")
    elif not manifest.code_calibration:
        raise DataError(f"the persona {manifest.name} takes no calibration", hint="use a newer file of it")
    elif wearer.gain.shape != (manifest.code_size,) or wearer.encoder_sha256 not in {None, manifest.encoder_sha256}:
        raise DataError(
            f"the calibration is not of the encoder of {manifest.name}", hint="calibrate again with this persona"
        )
    else:
        live.calibrate(*_stretched(manifest, wearer.gain, wearer.shift, strength))


def _stretched(manifest: Manifest, gain: F32, shift: F32, strength: float) -> tuple[F32, F32]:
    """Gain and shift of code' = mean + strength * (code * gain + shift - mean). Raises DataError without a mean."""
    if strength == 1.0:
        return gain, shift
    if manifest.code_reference is None:
        raise DataError(f"the expression of {manifest.name} cannot be changed", hint="use a newer file of it")
    mean = np.array(manifest.code_reference.mean, np.float32)
    return strength * gain, strength * shift + (1.0 - np.float32(strength)) * mean


def _take_points(points: F32 | None, into: F32, present: F32) -> None:
    """Fill the network's (1, P, 2) points and (1, 1) flag. Raises RuntimeFailure for another number of points."""
    if points is not None and points.shape != into.shape[1:]:
        raise RuntimeFailure(
            f"mesh points of {points.shape}, not {into.shape[1:]}", hint="take them from mesh_subset.crop_points"
        )
    present.fill(0.0 if points is None else 1.0)
    if points is None:
        into.fill(0.0)
    else:
        into[0] = points
