"""The persona's face for one aligned face: pixels in, pixels and mask out, through the persona's network."""

from __future__ import annotations

import numpy as np

from engines.errors import DataError, RuntimeFailure
from engines.persona import Persona
from engines.runtimes import Runtime
from engines.types import F32, AlignedFace, Swap
from engines.wearer import WearerCalibration
from realtime import kernels


class Swapper:
    """Runs a persona's network. Owns its buffers, not the runtime; one thread at a time."""

    def __init__(self, persona: Persona, runtime: Runtime) -> None:
        """``runtime`` runs ``persona.swap_onnx``. Raises RuntimeFailure when it runs something else."""
        manifest = persona.manifest
        inputs, outputs = manifest.network_inputs(), manifest.network_outputs()
        if dict(runtime.inputs) != inputs or dict(runtime.outputs) != outputs:
            raise RuntimeFailure(
                f"the runtime's network does not fit the persona {manifest.name}", hint="open it from persona.swap_onnx"
            )
        self.crop_size = manifest.crop_size
        """S: side of the aligned faces that :meth:`swap` takes."""
        self.swap_size = manifest.output_size
        """T: side of the swaps that it gives."""
        self._manifest = manifest
        self._runtime = runtime
        self._feeds: dict[str, F32] = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
        if manifest.code_calibration:
            self._feeds["code_gain"].fill(1.0)
        self._pixels = np.zeros((self.swap_size, self.swap_size, 3), np.uint8)
        self._mask = np.zeros((self.swap_size, self.swap_size), np.uint8)

    def calibrate(self, wearer: WearerCalibration | None) -> None:
        """Use this wearer's calibration from the next face on; None: none. May be called from another thread.

        Raises DataError for a calibration of another encoder, and for any where the persona takes none.
        """
        manifest = self._manifest
        if wearer is None:
            if not manifest.code_calibration:
                return
            gain, shift = np.ones(manifest.code_size, np.float32), np.zeros(manifest.code_size, np.float32)
        elif not manifest.code_calibration:
            raise DataError(f"the persona {manifest.name} takes no calibration", hint="use a newer file of it")
        elif wearer.gain.shape != (manifest.code_size,) or wearer.encoder_sha256 not in (None, manifest.encoder_sha256):
            raise DataError(
                f"the calibration is not of the encoder of {manifest.name}", hint="calibrate again with this persona"
            )
        else:
            gain, shift = wearer.gain, wearer.shift
        # New arrays in a new dict: a swap in progress keeps the pair that it began with.
        changed = {"code_gain": gain, "code_shift": shift}
        self._feeds = self._feeds | {
            name: np.array(value[None], np.float32, order="C") for name, value in changed.items()
        }

    def swap(self, face: AlignedFace) -> Swap:
        """The persona's face. Its arrays belong to the swapper until the next call.

        A network that takes mesh points gets those of ``face``; without them the picture alone decides. Raises
        RuntimeFailure when the network cannot run, and with kind ``bad_output`` when it gave NaN or infinities.
        """
        if face.pixels.shape != (self.crop_size, self.crop_size, 3):
            raise RuntimeFailure(
                f"an aligned face of {face.pixels.shape}, not of side {self.crop_size}",
                hint="align with swapper.crop_size",
            )
        feeds = self._feeds
        kernels.bgr_to_planar(face.pixels, feeds["face"])
        if self._manifest.mesh_points:
            self._take_points(face.points, feeds["points"], feeds["present"])
        outputs = self._runtime.run(feeds)
        faults = kernels.planar_to_bgr(outputs["swap"], outputs["mask"], self._pixels, self._mask)
        if faults:
            raise RuntimeFailure(
                f"the persona's network gave {faults} numbers that are not finite",
                hint="try --precision f32 or --runtime onnxruntime",
                kind="bad_output",
            )
        return Swap(face, self._pixels, self._mask)

    @staticmethod
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
