"""Cameras as 4x4 matrices: OpenGL clip space, column vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole that looks along -z. ``focal_px`` refers to the picture's own height."""

    position: tuple[float, float, float] = (0.0, 7.12, 15.0)
    width: int = 1280
    height: int = 720
    focal_px: float = 2298.0

    @property
    def intrinsics(self) -> Matrix:
        """(3, 3) camera matrix for pixel centres at integers."""
        cx, cy = self.width / 2 - 0.5, self.height / 2 - 0.5
        return np.array([[self.focal_px, 0, cx], [0, self.focal_px, cy], [0, 0, 1.0]])

    def view_projection(self, near: float = 1.0, far: float = 40.0) -> Matrix:
        """World decimetres -> clip space."""
        projection = np.zeros((4, 4))
        projection[0, 0] = 2 * self.focal_px / self.width
        projection[1, 1] = 2 * self.focal_px / self.height
        projection[2, 2] = (far + near) / (near - far)
        projection[2, 3] = 2 * far * near / (near - far)
        projection[3, 2] = -1
        view = np.eye(4)
        view[:3, 3] = -np.asarray(self.position)
        return projection @ view

    def project(self, points: Matrix) -> Matrix:
        """(N, 3) world points -> (N, 2) pixels, centres at integers."""
        relative = points - np.asarray(self.position)
        cx, cy = self.width / 2 - 0.5, self.height / 2 - 0.5
        depth = -relative[:, 2]
        x = relative[:, 0] / depth * self.focal_px + cx
        y = -relative[:, 1] / depth * self.focal_px + cy
        return np.stack([x, y], axis=1)


def crop_clip(picture_size: tuple[int, int], frame_to_crop: Matrix, crop_size: int) -> Matrix:
    """(4, 4) matrix to put in front of a camera's so that it renders an aligned crop of its picture directly.

    ``frame_to_crop`` is the (2, 3) similarity in pixels with centres at integers. Rendering the crop is exact and
    cheaper than rendering the picture and resampling it.
    """
    width, height = picture_size
    # clip (ndc) -> pixel edges of the picture, y down -> crop pixel edges -> ndc of the crop.
    ndc_to_px = np.array([[width / 2, 0, width / 2 - 0.5], [0, -height / 2, height / 2 - 0.5], [0, 0, 1.0]])
    align = np.vstack([frame_to_crop, [0, 0, 1.0]])
    px_to_ndc = np.array([[2 / crop_size, 0, 1 / crop_size - 1], [0, -2 / crop_size, 1 - 1 / crop_size], [0, 0, 1.0]])
    plane = px_to_ndc @ align @ ndc_to_px
    clip = np.eye(4)
    clip[:2, :2] = plane[:2, :2]
    clip[:2, 3] = plane[:2, 2]
    return clip


def orthographic(direction: Matrix, centre: Matrix, half_side: float, near: float = 0.1, far: float = 12.0) -> Matrix:
    """A parallel camera that looks at ``centre`` from ``direction``, for shadows and ambient occlusion."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.001], z)
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    view = np.eye(4)
    view[:3, :3] = rotation
    view[:3, 3] = -rotation @ (centre + z * 6)
    projection = np.diag([1 / half_side, 1 / half_side, -2 / (far - near), 1.0])
    projection[2, 3] = -(far + near) / (far - near)
    return projection @ view
