"""How good a swap is, measured against the true render of the persona in the wearer's state. numpy and OpenCV only.

Pictures are uint8 or float arrays on the 0..255 scale, colour order does not matter; masks are 0..1 or bool.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingsError

Picture = NDArray[np.generic]


def psnr_masked_db(result: Picture, truth: Picture, mask: Picture) -> float:
    """10 log10(255^2 / MSE) in dB, the mean squared error over all channels of the pixels where ``mask`` > 0.5.

    ``result`` and ``truth`` (..., H, W, 3), ``mask`` (..., H, W). Equal pictures give infinity. A whole clip may be
    given at once: the error is averaged before the logarithm. Raises SettingsError when the mask is empty.
    """
    inside = np.asarray(mask, np.float64) > 0.5
    if not inside.any():
        raise SettingsError("the mask is empty, so there is nothing to compare", hint="score frames that show a face")
    error = np.asarray(result, np.float64)[inside] - np.asarray(truth, np.float64)[inside]
    mse = float(np.mean(error * error))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def mask_iou(mask: Picture, truth: Picture) -> float:
    """Intersection over union of two masks thresholded at 0.5, 0..1; two empty masks agree (1)."""
    a, b = np.asarray(mask, np.float64) > 0.5, np.asarray(truth, np.float64) > 0.5
    union = np.count_nonzero(a | b)
    return 1.0 if union == 0 else np.count_nonzero(a & b) / union


def ssim(result: Picture, truth: Picture, mask: Picture | None = None) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255.

    ``result`` and ``truth`` (H, W, 3); the mean over channels and the pixels where ``mask`` (H, W) > 0.5, if given.
    """
    a, b = np.asarray(result, np.float64), np.asarray(truth, np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _window(a), _window(b)
    var_a, var_b = _window(a * a) - mean_a**2, _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    values = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(values.mean() if mask is None else values[np.asarray(mask, np.float64) > 0.5].mean())


def sharpness_ratio(result: Picture, truth: Picture, mask: Picture) -> float:
    """Laplacian energy of the result over the truth's, inside the mask: 1 is as sharp, below softer, above noisier.

    sum |L * R|^2 / sum |L * T|^2, with L the 4-neighbour Laplacian of luma (mean of the channels; the response is the
    classic focus measure of Nayar & Nakagawa 1994), over the pixels whose four neighbours too lie where ``mask`` > 0.5:
    what stands behind the face must not count. ``result`` and ``truth`` (..., H, W, 3), ``mask`` (..., H, W); a whole
    clip is summed before dividing. A flat truth gives infinity, or 1 if the result is flat too. Raises SettingsError
    when no pixel is left.
    """
    height, width = np.shape(mask)[-2:]
    inside = np.asarray(mask, np.float64).reshape(-1, height, width) > 0.5
    # All but the border, which has no four neighbours.
    across, along = inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:], inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1]
    inside = inside[:, 1:-1, 1:-1] & across & along
    if not inside.any():
        raise SettingsError("the mask is empty, so there is nothing to compare", hint="score frames that show a face")

    def energy(picture: Picture) -> float:
        p = np.asarray(picture, np.float64).mean(axis=-1).reshape(-1, height, width)
        response = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:] - 4 * p[:, 1:-1, 1:-1]
        return float(np.square(response[inside]).sum())

    found, wanted = energy(result), energy(truth)
    if wanted == 0:
        return 1.0 if found == 0 else math.inf
    return found / wanted


def flicker_excess(results: Picture, truths: Picture, masks: Picture) -> float:
    """How much more the result changes from frame to frame than the truth does, on the 0..255 scale; below 0 is calmer.

    Mean over t and the pixels where both neighbouring masks > 0.5 of |R[t] - R[t-1]| - |T[t] - T[t-1]|.
    ``results`` and ``truths`` (N, H, W, 3) consecutive frames, ``masks`` (N, H, W). Raises SettingsError without two
    neighbouring frames that show a face.
    """
    r, t = np.asarray(results, np.float64), np.asarray(truths, np.float64)
    m = np.asarray(masks, np.float64) > 0.5
    inside = m[1:] & m[:-1]
    if not inside.any():
        raise SettingsError("flicker needs two neighbouring frames with a face", hint="score a longer clip")
    excess = np.abs(np.diff(r, axis=0)) - np.abs(np.diff(t, axis=0))
    return float(excess[inside].mean())


def _window(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(picture, (11, 11), 1.5), np.float64)
