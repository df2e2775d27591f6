"""The embedding of a picture of one face whose landmarks nobody gave."""

from __future__ import annotations

from calibration.embedding import Embedder
from calibration.gallery_invent import Embed, Vector
from engines import geometry
from engines.errors import DetectorError
from engines.facemesh import Roi, load_facemesh, roi_from_mesh
from engines.types import U8

LEAST_SCORE = 0.5
"""Face Mesh's score below which a picture shows no face, as in the live detector."""


def dlib_embedder() -> Embed:
    """A function from a picture (H, W, 3) BGR that one face fills to its 128 numbers, or None where there is no face.

    Raises MissingDependencyError without dlib or its weights.
    """
    embedder, facemesh = Embedder(), load_facemesh()

    def embed(picture: U8) -> Vector | None:
        height, width = picture.shape[:2]
        whole = Roi(((width - 1) / 2, (height - 1) / 2), float(max(height, width)), 0.0)
        try:
            first, _, _ = facemesh.landmarks(picture, whole)
            mesh, _, score = facemesh.landmarks(picture, roi_from_mesh(first))  # the second look is centred
            if score < LEAST_SCORE:
                return None
            return embedder.embed(picture, geometry.points_68(mesh, "mesh468"))
        except DetectorError:
            return None

    return embed
