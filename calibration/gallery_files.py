"""What all persona files of the gallery and of invented people have in common."""

from __future__ import annotations

import platform
import re
from dataclasses import asdict
from importlib import metadata
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingsError
from engines.export import ExportedSwap
from engines.geometry import CROP_CENTRE_DM, CROP_SIDE_DM
from engines.network import NetworkConfig, PersonaDecoder
from engines.persona import CodeReference, Crop, Manifest
from engines.universal_bundle import WearerSamples

NETWORK = "bottleneck-autoencoder-1"
_WEBP_QUALITY = 88


def manifest_of(
    name: str, title: str, seed: int, sizes: NetworkConfig, encoder_sha256: str, samples: WearerSamples
) -> Manifest:
    """The manifest of an invented person on a universal encoder, members still to be filled in.

    Raises SettingsError for a name that is none.
    """
    if not re.fullmatch(r"[a-z0-9-]{1,40}", name):
        raise SettingsError(
            f"{name[:60]!r} cannot be a persona's name", hint="use small letters, digits and hyphens, at most 40"
        )
    return Manifest(
        name=name,
        title=title,
        kind="invented",
        tier=sizes.tier,
        network=NETWORK,
        encoder_sha256=encoder_sha256,
        crop=Crop(side_dm=CROP_SIDE_DM, centre_dm=CROP_CENTRE_DM),
        crop_size=sizes.input_size,
        output_size=sizes.output_size,
        code_size=sizes.code_size,
        mesh_points=sizes.mesh_points,
        code_calibration=True,
        code_reference=CodeReference(
            mean=tuple(float(v) for v in samples.code_mean), spread=tuple(float(v) for v in samples.code_spread)
        ),
        seed=seed,
        created_by=f"personacam {metadata.version('personacam')}",
    )


def export_facts(exported: ExportedSwap) -> dict[str, Any]:
    """How far the shipped graph is from the trained networks, for a report."""
    return {
        "opset": exported.opset,
        "weights": exported.weights,
        "float32": asdict(exported.f32),
        "shipped": asdict(exported.shipped),
    }


def machine_facts() -> dict[str, str]:
    """Where something was made, for a report."""
    return {"python": platform.python_version(), "processor": platform.machine()}


def half_precision(decoder: PersonaDecoder) -> bytes:
    """A decoder's weights as float16 safetensors, the start of further training."""
    from safetensors.torch import save

    return bytes(save({name: tensor.half().contiguous() for name, tensor in decoder.state_dict().items()}))


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """A BGR picture as a preview."""
    return bytes(cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])[1])
