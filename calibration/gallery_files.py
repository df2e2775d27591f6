"""What all persona files made from a universal encoder have in common: gallery, invented and enrolled people."""

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
from engines.persona import Chain, CodeReference, Crop, Manifest
from engines.universal_bundle import WearerSamples

NETWORK = "bottleneck-autoencoder-1"
_WEBP_QUALITY = 88


def manifest_of(
    name: str, title: str, seed: int | None, sizes: NetworkConfig, encoder_sha256: str, samples: WearerSamples | None,
    chain: Chain | None = None,
) -> Manifest:  # fmt: skip
    """The manifest of a persona on a universal encoder, members still to be filled in.

    An invented person has a ``seed`` and no ``chain``, a real one the other way round. Without ``samples`` wearers are
    not calibrated to the encoder's own. Raises SettingsError for a name that is none.
    """
    if not re.fullmatch(r"[a-z0-9-]{1,40}", name):
        raise SettingsError(
            f"{name[:60]!r} cannot be a persona's name", hint="use small letters, digits and hyphens, at most 40"
        )
    return Manifest(
        name=name,
        title=title,
        kind="invented" if chain is None else "person",
        tier=sizes.tier,
        network=NETWORK,
        encoder_sha256=encoder_sha256,
        crop=Crop(side_dm=CROP_SIDE_DM, centre_dm=CROP_CENTRE_DM),
        crop_size=sizes.input_size,
        output_size=sizes.output_size,
        code_size=sizes.code_size,
        mesh_points=sizes.mesh_points,
        code_calibration=True,
        code_reference=None if samples is None else _reference(samples),
        seed=seed,
        chain=chain,
        created_by=f"personacam {metadata.version('personacam')}",
    )


def _reference(samples: WearerSamples) -> CodeReference:
    mean, spread = samples.code_mean, samples.code_spread
    return CodeReference(mean=tuple(float(v) for v in mean), spread=tuple(float(v) for v in spread))


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
