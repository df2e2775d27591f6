"""Alignment: from landmarks to the upright square that the networks see, and back. numpy only.

Thirteen points that hardly move with expression (eye corners, nose ridge, nose base) are fitted to a template by the
least-squares similarity of Umeyama (1991, IEEE PAMI 13(4)). The template is the average invented head seen from the
front, so footage with exact truth and live footage are cut the same way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.errors import DetectorError
from engines.types import F64, LandmarkLayout

CROP_SIDE_DM = 2.15
"""Side of the crop on the average head, in decimetres: above the brows to below an open chin."""
CROP_CENTRE_DM = (0.0, 0.28)
"""Centre of the crop relative to the point between the eyes' height that the template's y is measured from."""

ALIGN_POINTS_68 = np.array([36, 39, 42, 45, 27, 28, 29, 30, 31, 32, 33, 34, 35])
"""Rows of the iBUG 68 layout used for alignment: subject's right eye first."""

MESH_TO_68 = np.array(
    [
        162,
        234,
        93,
        58,
        172,
        136,
        149,
        148,
        152,
        377,
        378,
        365,
        397,
        288,
        323,
        454,
        389,
        71,
        63,
        105,
        66,
        107,
        336,
        296,
        334,
        293,
        301,
        168,
        197,
        5,
        4,
        75,
        97,
        2,
        326,
        305,
        33,
        160,
        158,
        133,
        153,
        144,
        362,
        385,
        387,
        263,
        373,
        380,
        61,
        39,
        37,
        0,
        267,
        269,
        291,
        405,
        314,
        17,
        84,
        181,
        78,
        82,
        13,
        312,
        308,
        317,
        14,
        87,
    ]
)
"""Face Mesh vertex that lies nearest to each of the iBUG 68 points."""

# Average head (macro targets of both genders and all groups mixed), camera 15 dm away at eye-to-mouth height: x to the
# picture's right, y down, decimetres.
_TEMPLATE_DM = np.array(
    [
        (-0.461, -0.204), (-0.192, -0.182), (0.192, -0.182), (0.461, -0.204),
        (0.0, -0.186), (0.0, -0.072), (0.0, 0.068), (0.0, 0.165),
        (-0.169, 0.286), (-0.085, 0.311), (0.0, 0.320), (0.085, 0.311), (0.169, 0.286),
    ]
)  # fmt: skip
TEMPLATE = (_TEMPLATE_DM - np.array(CROP_CENTRE_DM)) / CROP_SIDE_DM + 0.5
"""(13, 2) positions of ALIGN_POINTS_68 as fractions of the crop's side, 0..1."""

# Where Face Mesh puts the same thirteen points on the same heads: its nose ridge begins higher and its nose base is
# narrower. Measured by ``python -m calibration.mesh_template`` on frontal renders of 46 people; without it live crops
# came out 2 pixels of 128 too low and 2 % too large.
_MESH_TEMPLATE_DM = np.array(
    [
        (-0.460, -0.213), (-0.174, -0.191), (0.174, -0.191), (0.460, -0.213),
        (0.0, -0.248), (0.0, -0.082), (0.0, 0.064), (0.0, 0.154),
        (-0.130, 0.238), (-0.076, 0.276), (0.0, 0.278), (0.076, 0.276), (0.130, 0.238),
    ]
)  # fmt: skip
MESH_TEMPLATE = (_MESH_TEMPLATE_DM - np.array(CROP_CENTRE_DM)) / CROP_SIDE_DM + 0.5
"""(13, 2) like TEMPLATE, for points that Face Mesh found."""

TEMPLATE_5 = (
    np.array([(-0.326, -0.195), (0.326, -0.195), (0.0, 0.165), (-0.244, 0.537), (0.244, 0.537)])
    - np.array(CROP_CENTRE_DM)
) / CROP_SIDE_DM + 0.5
"""(5, 2): eye centres, nose tip, mouth corners, for detectors that give five points."""

CORE = (
    np.array([(-0.461, -0.204), (0.461, -0.204), (0.244, 0.537), (0.0, 0.656), (-0.244, 0.537)])
    - np.array(CROP_CENTRE_DM)
) / CROP_SIDE_DM + 0.5
"""(5, 2) polygon as fractions of the crop's side: outer eye corners, mouth corners, lower lip of the average head. The
wearer is recognised by what lies in it, so a swap has to cover it."""
MOUTH_TOP = (0.31 - CROP_CENTRE_DM[1]) / CROP_SIDE_DM + 0.5
"""Height in the crop, as a fraction of its side, below which CORE is the mouth: the base of the nose."""


def fit_similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> F64:
    """Least-squares rotation, uniform scale and shift that take ``source`` (N, 2) to ``target`` (N, 2).

    Returns a (2, 3) affine. Raises DetectorError when the points are not finite or all fall together.
    """
    src = np.asarray(source, np.float64)
    dst = np.asarray(target, np.float64)
    src_mean, dst_mean = src.mean(axis=0), dst.mean(axis=0)
    a, b = src - src_mean, dst - dst_mean
    spread = float((a * a).sum())
    if not np.isfinite(spread) or not np.isfinite(b).all() or spread < 1e-9:
        raise DetectorError("the landmarks do not span a face", hint="the frame is treated as one without a face")
    # For 2-D points the optimum has a closed form: treat points as complex numbers and project.
    cos = float((a * b).sum()) / spread
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def points_68(landmarks: NDArray[np.floating], layout: LandmarkLayout) -> NDArray[np.floating]:
    """The iBUG 68 points (68, 2) of a layout that has them. Raises DetectorError for ``points5``."""
    if layout == "points68":
        return landmarks
    if layout == "mesh468":
        return np.asarray(landmarks[MESH_TO_68])
    raise DetectorError(f"layout {layout} has no 68 points", hint="use a detector with dense landmarks")


def frame_to_crop(landmarks: NDArray[np.floating], layout: LandmarkLayout, size: int) -> F64:
    """(2, 3) affine from frame pixels to pixels of a ``size`` x ``size`` crop, pixel centres at integers."""
    if layout == "points5":
        points, template = landmarks, TEMPLATE_5
    else:
        points = points_68(landmarks, layout)[ALIGN_POINTS_68]
        template = MESH_TEMPLATE if layout == "mesh468" else TEMPLATE
    return fit_similarity(points, template * size - 0.5)


FEATURES_68 = np.array([*range(18, 26), *range(36, 60)])
"""Brows without their ends, eyes and outer lips: what a face is recognised by. On a turned head the ends of the brows
and the nose stand out of the face's outline."""


def features(landmarks: NDArray[np.floating], layout: LandmarkLayout, to_frame: F64) -> F64 | None:
    """(32, 2) brows, eyes and lips in crop pixels, or None for layouts that do not have them."""
    if layout == "points5":
        return None
    return transform(invert(to_frame), points_68(landmarks, layout)[FEATURES_68])


def invert(affine: F64) -> F64:
    """Inverse of a (2, 3) affine."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def compose(outer: F64, inner: F64) -> F64:
    """The (2, 3) affine that applies ``inner`` first, then ``outer``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def rescale_crop(to_frame: F64, from_size: int, to_size: int) -> F64:
    """Same square, other pixel grid: crop->frame affine for a ``to_size`` crop from that of a ``from_size`` crop."""
    scale = from_size / to_size
    shift = 0.5 * scale - 0.5
    return compose(to_frame, np.array([[scale, 0.0, shift], [0.0, scale, shift]]))


def transform(affine: F64, points: NDArray[np.floating]) -> F64:
    """Apply a (2, 3) affine to (N, 2) points."""
    moved: F64 = np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]
    return moved


def crop_corners(to_frame: F64, size: int) -> F64:
    """(4, 2) frame positions of the outer corners of a crop, clockwise from the top left."""
    edge = size - 0.5
    return transform(to_frame, np.array([[-0.5, -0.5], [edge, -0.5], [edge, edge], [-0.5, edge]]))
