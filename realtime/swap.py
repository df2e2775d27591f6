"""The persona's face for one aligned face: pixels in, pixels and mask out, through the persona's network."""

from __future__ import annotations

import numpy as np

from engines.errors import RuntimeFailure
from engines.persona import Persona
from engines.runtimes import Runtime
from engines.types import AlignedFace, Swap
from realtime import kernels


class Swapper:
    """Runs a persona's network. Owns its buffers, not the runtime; one thread at a time."""

    def __init__(self, persona: Persona, runtime: Runtime) -> None:
        """``runtime`` runs ``persona.swap_onnx``. Raises RuntimeFailure when it runs something else."""
        manifest = persona.manifest
        s, t, c = manifest.crop_size, manifest.output_size, manifest.code_size
        wanted = {"swap": (1, 3, t, t), "mask": (1, 1, t, t), "code": (1, c)}
        if dict(runtime.inputs) != {"face": (1, 3, s, s)} or dict(runtime.outputs) != wanted:
            raise RuntimeFailure(
                f"the runtime's network does not fit the persona {manifest.name}", hint="open it from persona.swap_onnx"
            )
        self.crop_size = s
        """S: side of the aligned faces that :meth:`swap` takes."""
        self.swap_size = t
        """T: side of the swaps that it gives."""
        self._runtime = runtime
        self._face = np.zeros((1, 3, s, s), np.float32)
        self._pixels = np.zeros((t, t, 3), np.uint8)
        self._mask = np.zeros((t, t), np.uint8)

    def swap(self, face: AlignedFace) -> Swap:
        """The persona's face. Its arrays belong to the swapper until the next call.

        Raises RuntimeFailure when the network cannot run, and with kind ``bad_output`` when it gave NaN or infinities.
        """
        if face.pixels.shape != (self.crop_size, self.crop_size, 3):
            raise RuntimeFailure(
                f"an aligned face of {face.pixels.shape}, not of side {self.crop_size}",
                hint="align with swapper.crop_size",
            )
        kernels.bgr_to_planar(face.pixels, self._face)
        outputs = self._runtime.run({"face": self._face})
        faults = kernels.planar_to_bgr(outputs["swap"], outputs["mask"], self._pixels, self._mask)
        if faults:
            raise RuntimeFailure(
                f"the persona's network gave {faults} numbers that are not finite",
                hint="try --precision f32 or --runtime onnxruntime",
                kind="bad_output",
            )
        return Swap(face, self._pixels, self._mask)
