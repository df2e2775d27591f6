"""Camera faults: each does what it says, and to the size at which the camera saw."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from calibration.people.camera.lighting import LIGHT_KINDS, Light, light_of, random_light, towards_camera
from calibration.people.camera.sensor import CLEAN, Sensor, h264_picture, photograph, random_sensor


def _grey(value: float = 0.18, side: int = 96) -> np.ndarray:
    return np.full((side, side, 3), value, np.float32)


def _edge(side: int = 96) -> np.ndarray:
    picture = _grey(0.05, side)
    picture[:, side // 2 :] = 0.4
    return picture


def _detail() -> np.ndarray:
    noise = np.random.default_rng(0).random((96, 96, 3), np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2), np.float32)


def test_the_same_seed_is_the_same_picture():
    sensor = Sensor(noise=0.02, codec=("h264", 28), blur_px=4, sharpening=0.5, veil=0.1, saturation=1.1)
    first, again, other = (photograph(_detail(), sensor, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_clean_keeps_exposure_and_colours_and_loses_the_rest():
    sensor = Sensor(exposure=1.4, white_balance=(1.2, 0.8), saturation=1.2, noise=0.03, blur_px=5, codec=("mjpeg", 40))
    clean = sensor.clean()
    assert (clean.exposure, clean.white_balance, clean.saturation) == (1.4, (1.2, 0.8), 1.2)
    assert clean == replace(CLEAN, exposure=1.4, white_balance=(1.2, 0.8), saturation=1.2)
    assert np.ptp(photograph(_grey(), clean, 1).reshape(-1, 3), axis=0).max() == 0


def test_noise_is_stronger_in_the_dark_and_finer_when_the_face_is_near():
    sensor = Sensor(noise=0.03, codec=None, softness_px=0)
    dark, bright = (photograph(_grey(v), sensor, 3).std() for v in (0.02, 0.5))
    assert dark > 1.5 * bright > 1
    near = photograph(_grey(), sensor, 3, scale=0.4).std()
    assert near < 0.6 * photograph(_grey(), sensor, 3).std()


def test_far_faces_are_seen_small():
    sharp = Sensor(noise=0, codec=None, softness_px=0)
    far = photograph(_detail(), sharp, 0, scale=4.0).astype(float)
    assert np.abs(np.diff(far, axis=1)).mean() < 0.6 * np.abs(np.diff(photograph(_detail(), sharp, 0) / 1.0)).mean()
    # Enlarging shifts nothing: the edge stays where the truth has it.
    column = photograph(_edge(), sharp, 0, scale=3.0)[48, :, 1].astype(float)
    middle = np.interp((column.min() + column.max()) / 2, column[40:56], np.arange(40, 56))
    assert middle == pytest.approx(47.5, abs=0.5)


def test_white_balance_exposure_and_gamma_change_what_they_should():
    plain = photograph(_grey(), CLEAN, 0)[0, 0].astype(int)
    warm = photograph(_grey(), replace(CLEAN, white_balance=(1.4, 0.7)), 0)[0, 0].astype(int)
    assert warm[2] > plain[2]  # red, last in BGR
    assert warm[0] < plain[0]
    assert warm[1] == plain[1]
    assert (photograph(_grey(), replace(CLEAN, exposure=2.0), 0)[0, 0] > plain).all()
    assert (photograph(_grey(), replace(CLEAN, gamma=1.2), 0)[0, 0] > plain).all()
    red = _grey()
    red[..., 0] = 0.4
    assert np.ptp(photograph(red, replace(CLEAN, saturation=0.0), 0)[0, 0].astype(int)) <= 1


def test_motion_blur_runs_along_its_angle_only():
    along, across = (replace(CLEAN, blur_px=9.0, blur_angle=a) for a in (0.0, 90.0))
    steepest = [np.abs(np.diff(photograph(_edge(), s, 0)[48, :, 1].astype(int))).max() for s in (along, across, CLEAN)]
    assert steepest[0] < 0.4 * steepest[2]
    assert steepest[1] >= steepest[2] - 2


def test_sharpening_leaves_halos_and_a_veil_lifts_the_dark():
    column = photograph(_edge(), replace(CLEAN, sharpening=0.8), 0)[48, :, 1].astype(int)
    assert column.max() > column[-1] + 4
    assert column.min() < column[0] - 4
    assert photograph(_edge(), replace(CLEAN, veil=0.2), 0)[48, 2, 1] > photograph(_edge(), CLEAN, 0)[48, 2, 1] + 3


@pytest.mark.parametrize(("weak", "strong"), [(("jpeg", 95), ("jpeg", 30)), (("h264", 18), ("h264", 38))])
def test_codecs_lose_more_the_harder_they_press(weak, strong):
    plain = photograph(_detail(), CLEAN, 0).astype(int)
    losses = [np.abs(photograph(_detail(), replace(CLEAN, codec=c), 0) - plain).mean() for c in (weak, strong)]
    assert 0 < losses[0] < losses[1] < 30


def test_mjpeg_halves_the_resolution_of_colour():
    stripes = _grey()
    stripes[:, ::2, 0] = 0.6
    full, half = (
        photograph(stripes, replace(CLEAN, codec=(name, 95), softness_px=0.0), 0).astype(int)
        for name in ("jpeg", "mjpeg")
    )
    contrast = [np.abs(np.diff(p[48, :, 2] - p[48, :, 1])).mean() for p in (full, half)]
    assert contrast[1] < 0.5 * contrast[0]


def test_h264_takes_odd_sizes_and_keeps_colours():
    picture = np.full((63, 41, 3), (40, 90, 180), np.uint8)
    back = h264_picture(picture, 20)
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).max() < 8


def test_automatic_exposure_evens_out_the_light():
    rng = np.random.default_rng(1)
    arriving, exposure = [], []
    for _ in range(300):
        kind, light = random_light(rng)
        sensor = random_sensor(rng, light, kind)
        assert json.loads(json.dumps(asdict(sensor)))["exposure"] == sensor.exposure
        if kind != "backlit":
            arriving.append(towards_camera(light)[1])
            exposure.append(sensor.exposure)
    seen = np.array(arriving) * exposure
    assert np.log(seen).std() < 0.6 * np.log(arriving).std()
    assert np.corrcoef(np.log(arriving), np.log(exposure))[0, 1] < -0.7


def test_lights_are_of_the_kind_they_are_called():
    rng = np.random.default_rng(2)
    lights = {kind: [light_of(kind, rng) for _ in range(40)] for kind in LIGHT_KINDS}

    def mean(kind, of):
        return float(np.mean([of(light) for light in lights[kind]]))

    assert mean("dim", lambda x: towards_camera(x)[1]) < 0.4 * mean("studio", lambda x: towards_camera(x)[1])
    assert mean("lamp", lambda x: x.key[0] / x.key[2]) > 1.5
    assert mean("backlit", lambda x: max(x.rim) / max(x.key)) > 3
    assert mean("screen", lambda x: x.key_direction[1]) < 0
    assert min(abs(x.key_direction[0]) for x in lights["window"]) > 0.6
    assert mean("coloured", lambda x: max(x.fill) / (min(x.fill) + 0.01)) > 3
    assert mean("overcast", lambda x: x.sky[1]) > 2 * mean("room", lambda x: x.sky[1])
    assert all(np.isfinite(towards_camera(light)).all() for kind in lights.values() for light in kind)
    assert Light() == Light()
