"""From a seed to the file of a person who does not exist, and who is not one of the enrolled people.

"Not one of the enrolled people" is all that can be said: nobody can compare a face with everybody on Earth. Compared is
dlib's 128-number embedding of the decoded neutral face with that of every enrolled persona; nearer than 0.6, its usual
threshold for one and the same person, and the next sample of the seed is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from calibration.gallery import gallery
from calibration.gallery_files import export_facts, manifest_of, webp
from engines.errors import SettingsError
from engines.export import export_swap
from engines.files import write_atomic
from engines.identity_space import IdentitySpace, fit
from engines.invent import InventedFace, propose, shown
from engines.persona import Manifest, Persona, write_persona
from engines.runtimes import open_runtime
from engines.universal_bundle import Bundle, WearerSamples, sample_codes

SAME_PERSON = 0.6
"""dlib's threshold of its embedding's distance."""
MOST_ATTEMPTS = 50
PREVIEW_SIZE = 384
_SHEET_CODES = 6
NOT_ENROLLED = "not one of the enrolled people"
NOT_COMPARED = "compared with nobody, because nobody is enrolled here"

Vector = NDArray[np.float64]
Embed = Callable[[NDArray[np.uint8]], "Vector | None"]
"""(H, W, 3) BGR picture of one face -> (128,); None where it finds no face."""


@dataclass(frozen=True)
class Invention:
    """A face that may be used, and those of its seed that may not."""

    face: InventedFace
    rejected: tuple[dict[str, Any], ...]
    """Of each sample before: attempt, and whom it came near at which distance, or that it showed no face."""
    nearest: float | None
    """Distance to the nearest enrolled persona; None where nobody is enrolled."""

    @property
    def statement(self) -> str:
        """What the comparison says."""
        return NOT_COMPARED if self.nearest is None else NOT_ENROLLED


def invented_space(bundle: Bundle) -> IdentitySpace:
    """The space of the run's people. Drawn ones are left out: between them and the filmed ones lies nobody."""
    drawn = {name for name, persona in gallery().items() if persona.style == "anime"}
    people = bundle.universal.people
    rows = [row for row, name in enumerate(people.names) if name not in drawn]
    return fit(people.vectors[rows])


def invent(
    bundle: Bundle, space: IdentitySpace, seed: int, *, spread: float, sliders: Mapping[int, float],
    enrolled: Mapping[str, Vector], embed: Embed | None,
) -> Invention:  # fmt: skip
    """The first sample of ``seed`` that is not too near to one of the ``enrolled`` (name -> embedding).

    ``embed`` may be None where nobody is enrolled. Raises SettingsError after MOST_ATTEMPTS, and as ``propose``
    does.
    """
    if enrolled and embed is None:
        raise SettingsError("enrolled people cannot be compared without an embedding", hint="give one")
    neutral = sample_codes(bundle)[:1]
    rejected: list[dict[str, Any]] = []
    for attempt in range(MOST_ATTEMPTS):
        face = propose(bundle.universal.trunk, space, seed=seed, attempt=attempt, spread=spread, sliders=sliders)
        if not enrolled or embed is None:
            return Invention(face, (), None)
        found = embed(enlarged(shown(face.decoder, neutral)[0]))
        if found is None:
            rejected.append({"attempt": attempt, "reason": "it shows no face"})
            continue
        distances = {name: float(np.linalg.norm(found - other)) for name, other in enrolled.items()}
        name = min(distances, key=lambda n: distances[n])
        if distances[name] >= SAME_PERSON:
            return Invention(face, tuple(rejected), distances[name])
        rejected.append({"attempt": attempt, "near": name, "distance": round(distances[name], 4)})
    raise SettingsError(
        f"{MOST_ATTEMPTS} samples of seed {seed} are all too near to enrolled people, or no faces",
        hint="choose another seed, other sliders or a larger spread",
    )


def enrolled_embedding(persona: Persona, samples: WearerSamples, embed: Embed) -> Vector | None:
    """(128,) of a persona: the one that its report states, else that of what its network makes of a neutral wearer."""
    stored = persona.report.get("embedding")
    if isinstance(stored, list) and len(stored) == 128 and all(isinstance(v, (int, float)) for v in stored):
        return np.array(stored, np.float64)
    return embed(enlarged(_neutral_face(persona, samples)))


def write_invented(
    path: Path, title: str, bundle: Bundle, invention: Invention, about: Mapping[str, Any]
) -> tuple[Manifest, dict[str, Any]]:
    """Write the .persona file; returns its manifest and report. Its name is the file's.

    Raises SettingsError for a name that is none, ExportError when the graph does not agree with the network.
    """
    universal, samples = bundle.universal, bundle.samples
    face = invention.face
    encoder_sha256 = str(universal.people.meta["encoder_sha256"])
    manifest = manifest_of(path.stem, title, face.seed, universal.encoder.sizes, encoder_sha256, samples)
    exported = export_swap(universal.encoder, face.decoder, samples.crops, samples.points)
    report: dict[str, Any] = {
        "invented": {
            "seed": face.seed,
            "attempt": face.attempt,
            "coordinates": [round(float(v), 5) for v in face.coordinates],
            "rejected": list(invention.rejected),
            "nearest_enrolled": invention.nearest,
            "statement": invention.statement,
            "trunk_sha256": universal.people.meta["trunk_sha256"],
            **about,
        },
        "export": export_facts(exported),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = enlarged(shown(face.decoder, sample_codes(bundle)[:1])[0])
    final = write_persona(path, manifest, swap_onnx=exported.onnx, preview=webp(picture), report=report)
    return final, report


def write_sheet(path: Path, bundle: Bundle, faces: Sequence[InventedFace]) -> None:
    """PNG to look at: a face per row, a wearer per column, the most neutral one first; the wearers stand on top."""
    count = min(_SHEET_CODES, len(bundle.samples.crops))
    codes = sample_codes(bundle)[:count]
    side = bundle.universal.encoder.sizes.output_size
    wearers = [np.asarray(cv2.resize(crop, (side, side)), np.uint8) for crop in bundle.samples.crops[:count]]
    rows = [np.concatenate(wearers, axis=1)]
    rows += [np.concatenate(list(shown(face.decoder, codes)), axis=1) for face in faces]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, bytes(cv2.imencode(".png", np.concatenate(rows, axis=0))[1]))


def enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A decoded face at the size of previews; detectors want more pixels than the smallest networks give."""
    size = (PREVIEW_SIZE, PREVIEW_SIZE)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _neutral_face(persona: Persona, samples: WearerSamples) -> NDArray[np.uint8]:
    """(T, T, 3) BGR: the persona on the most neutral sample, on grey outside of its mask."""
    m = persona.manifest
    crop = cv2.resize(samples.crops[0], (m.crop_size, m.crop_size), interpolation=cv2.INTER_AREA)
    face = np.ascontiguousarray(crop[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)
    known: dict[str, NDArray[np.float32]] = {
        "face": face,
        "code_gain": np.ones((1, m.code_size), np.float32),
        "code_shift": np.zeros((1, m.code_size), np.float32),
    }
    if m.mesh_points:
        points = samples.points[:1] if samples.points is not None else np.zeros((1, m.mesh_points, 2), np.float32)
        known |= {"points": points, "present": np.full((1, 1), samples.points is not None, np.float32)}
    runtime = open_runtime(persona.swap_onnx, precision="f32", threads=1)
    try:
        outputs = runtime.run({name: known[name] for name in m.network_inputs()})
        swap, mask = (torch.from_numpy(np.array(outputs[name])) for name in ("swap", "mask"))
    finally:
        runtime.close()
    over_grey = (swap * mask + 0.75 * (1 - mask))[0].numpy().transpose(1, 2, 0)[..., ::-1]
    return np.ascontiguousarray(np.clip(np.rint(over_grey * 255), 0, 255).astype(np.uint8))
