"""Calibrating live, or from a file: frames through detection and the persona's own network, codes and colours out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from calibration.calibrate_colour import Colours, linear_mean
from calibration.consent_gates import shown_only
from engines.errors import DetectorError
from engines.mesh_subset import crop_points
from engines.persona import Persona, read_persona
from engines.runtimes import open_runtime
from engines.types import F32, U8, Frame
from realtime import kernels
from realtime.calm import Calm
from realtime.detect import MeshDetector
from realtime.source import NoFrameYet, Source
from realtime.track import Tracker

_GRID = 32


class FaceReader:
    """One persona's network on the face of each frame: its code, and the colours of both faces. One thread.

    Nothing of what it makes is shown to anybody, so no consent is asked for; a run asks.
    """

    def __init__(self, persona: Path, *, threads: int = 1) -> None:
        """Raises PersonaError, RuntimeFailure."""
        self.persona: Persona = read_persona(persona, admit=shown_only)
        manifest = self.persona.manifest
        with ExitStack() as undo:
            self._runtime = open_runtime(self.persona.swap_onnx, threads=threads)
            undo.callback(self._runtime.close)
            self._tracker = Tracker(MeshDetector.load(threads=threads))
            undo.pop_all()
        self._cropper = kernels.FaceCropper()
        self._calm = Calm()
        self._crop: U8 = np.zeros((manifest.crop_size, manifest.crop_size, 3), np.uint8)
        self._feeds = {name: np.zeros(shape, np.float32) for name, shape in manifest.network_inputs().items()}
        if "code_gain" in self._feeds:
            self._feeds["code_gain"].fill(1.0)
        if "morph" in self._feeds and manifest.morph is not None:
            self._feeds["morph"].fill(manifest.morph)

    def code(self, frame: Frame) -> F32 | None:
        """(C,) of the face, uncalibrated, the caller's; None without a face. Raises RuntimeFailure."""
        outputs = self._run(frame)
        return None if outputs is None else np.array(outputs["code"][0], np.float32)

    def colours(self, frame: Frame) -> Colours | None:
        """Of both faces, inside the persona's mask; None without a face or mask. Raises RuntimeFailure."""
        outputs = self._run(frame)
        if outputs is None:
            return None
        swap = np.clip(outputs["swap"][0].transpose(1, 2, 0)[..., ::-1] * 255.0, 0, 255).astype(np.uint8)
        mask = np.asarray(outputs["mask"][0, 0], np.float32)
        small = [np.asarray(cv2.resize(p, (_GRID, _GRID), interpolation=cv2.INTER_AREA)) for p in (self._crop, swap)]
        inside = np.asarray(cv2.resize(mask, (_GRID, _GRID), interpolation=cv2.INTER_AREA)) > 0.5
        if inside.sum() < _GRID:
            return None
        wearer, persona = (linear_mean(np.asarray(picture, np.uint8), inside) for picture in small)
        return Colours(wearer, persona)

    def _run(self, frame: Frame) -> dict[str, F32] | None:
        try:
            found = self._tracker.update(frame)
            if found is None:
                self._calm.reset()
                return None
            side = len(self._crop)
            to_frame = self._tracker.align(found, side, frame.timestamp_ns / 1e9)
            self._cropper(frame.pixels, to_frame, self._crop)
        except DetectorError:
            self._tracker.reset()
            self._calm.reset()
            return None
        points = crop_points(found.landmarks, to_frame, side)
        self._calm(self._crop, points, frame.timestamp_ns / 1e9)
        kernels.bgr_to_planar(self._crop, self._feeds["face"])
        if "points" in self._feeds:
            self._feeds["points"][0] = points
            self._feeds["present"].fill(1.0)
        return dict(self._runtime.run(self._feeds))

    def close(self) -> None:
        """Free the network."""
        self._runtime.close()


def frames_of(source: Source, seconds: float | None = None) -> Iterator[Frame]:
    """Frames until the end or so many seconds after the first. Raises SourceError."""
    began: int | None = None
    while True:
        try:
            frame = source.read()
        except NoFrameYet:
            continue
        if frame is None:
            return
        began = frame.timestamp_ns if began is None else began
        if seconds is not None and frame.timestamp_ns - began > seconds * 1e9:
            return
        yield frame
