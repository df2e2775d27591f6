"""What leaves when there is no swap: for every policy and every reason, with a fake clock."""

import cv2
import numpy as np
import pytest

from engines.errors import SettingsError
from engines.types import Frame
from realtime.policy import FailurePolicy, PolicyGate, Reason, make_card, veil

SIZE = (320, 180)
SECOND = 1_000_000_000
GOOD = np.full((180, 320, 3), (1, 2, 3), np.uint8)


def a_frame(seed=0, size=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels.setflags(write=False)
    return Frame(pixels, index=0, captured_ns=0, timestamp_ns=0)


def an_output():
    return np.full((SIZE[1], SIZE[0], 3), 77, np.uint8)


def correlation(a, b):
    """Of two pictures without their coarse parts: what a face's features consist of."""
    fine = [p.astype(float) - cv2.GaussianBlur(p.astype(float), (0, 0), 8) for p in (a, b)]
    return float((fine[0] * fine[1]).mean() / (fine[0].std() * fine[1].std() + 1e-9))


def a_face(size, share):
    """Bright oval with dark eyes, brows, nose and mouth; ``share`` of the picture's height."""
    width, height = size
    picture = np.full((height, width, 3), 60, np.uint8)
    r = share * height / 2
    cx, cy = width / 2, height / 2

    def oval(x, y, a, b, level):
        centre, axes = (round(cx + x * r), round(cy + y * r)), (max(1, round(a * r)), max(1, round(b * r)))
        cv2.ellipse(picture, centre, axes, 0, 0, 360, (level,) * 3, -1)

    oval(0, 0, 0.75, 1.0, 190)
    for side in (-1, 1):
        oval(0.3 * side, -0.2, 0.12, 0.06, 30)
        oval(0.3 * side, -0.36, 0.16, 0.03, 70)
    oval(0, 0.12, 0.06, 0.14, 150)
    oval(0, 0.45, 0.25, 0.07, 90)
    return picture


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("policy", [p for p in FailurePolicy if p is not FailurePolicy.PASSTHROUGH])
def test_no_policy_but_passthrough_lets_the_wearer_out(policy, reason):
    gate = PolicyGate(policy, size=SIZE)
    frame = a_frame()
    before = frame.pixels.copy()
    out = an_output()
    gate.apply(out, frame, reason, SECOND)
    assert abs(correlation(out, frame.pixels)) < 0.1
    assert not (out == 77).all()
    np.testing.assert_array_equal(frame.pixels, before)
    assert gate.counts[reason] == 1
    assert sum(gate.counts.values()) == 1


BY_HAND = (Reason.VEILED, Reason.STANDBY)


@pytest.mark.parametrize("policy", list(FailurePolicy))
@pytest.mark.parametrize("reason", BY_HAND)
def test_what_was_asked_for_by_hand_covers_under_every_policy(policy, reason):
    gate = PolicyGate(policy, size=SIZE)
    frame, out = a_frame(), an_output()
    gate.remember(frame.pixels, 0)
    shown = gate.apply(out, frame, reason, 1)
    assert shown is (FailurePolicy.VEIL if reason is Reason.VEILED else FailurePolicy.CARD)
    assert abs(correlation(out, frame.pixels)) < 0.1
    assert not (out == 77).all()


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in BY_HAND])
def test_passthrough_is_the_frame_itself_in_a_buffer_of_its_own(reason):
    gate = PolicyGate(FailurePolicy.PASSTHROUGH, size=SIZE)
    frame, out = a_frame(), an_output()
    assert gate.apply(out, frame, reason, 0) is FailurePolicy.PASSTHROUGH
    np.testing.assert_array_equal(out, frame.pixels)
    assert not np.may_share_memory(out, frame.pixels)


@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_without_any_frame_something_plain_goes_out(policy):
    gate = PolicyGate(policy, size=SIZE)
    out, other = an_output(), a_frame().pixels.copy()
    gate.apply(out, None, Reason.SOURCE_LOST, 0)
    gate.apply(other, None, Reason.SOURCE_LOST, 0)
    np.testing.assert_array_equal(out, other)
    assert np.median(out) < 77


@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_the_frames_own_memory_is_never_written(policy):
    gate = PolicyGate(policy, size=SIZE)
    pixels = np.full((180, 320, 3), 5, np.uint8)
    with pytest.raises(SettingsError):
        gate.apply(pixels, Frame(pixels, 0, 0, 0), Reason.NO_FACE, 0)
    assert (pixels == 5).all()


@pytest.mark.parametrize("size", [(1280, 720), (320, 180), (180, 320), (641, 359)])
@pytest.mark.parametrize("share", [0.4, 0.7, 1.0])
def test_the_veil_leaves_no_features_of_a_face(size, share):
    face = a_face(size, share)
    plain = a_face(size, share)
    dst, other = np.empty_like(face), np.empty_like(face)
    # The same oval without features must look the same through the veil, but for a little shade.
    cv2.ellipse(
        plain,
        (round(size[0] / 2), round(size[1] / 2)),
        (round(0.5 * share * size[1] / 2), round(0.7 * share * size[1] / 2)),
        0,
        0,
        360,
        (190,) * 3,
        -1,
    )
    veil(face, dst)
    veil(plain, other)
    assert abs(correlation(face, face)) > 0.99
    fine = dst.astype(float) - cv2.GaussianBlur(dst.astype(float), (0, 0), max(size) / 200)
    assert fine.std() < 1.0
    before = np.abs(face.astype(int) - plain).max()
    assert np.abs(dst.astype(int) - other).max() < 0.35 * before


def test_the_veil_destroys_a_fine_pattern_and_keeps_the_light():
    y, x = np.mgrid[0:720, 0:1280]
    pattern = (128 + 100 * np.sin(2 * np.pi * x / 30) * np.sin(2 * np.pi * y / 24)).astype(np.uint8)
    picture = np.repeat(pattern[:, :, None], 3, axis=2)
    picture[:, 640:] //= 2
    dst = np.empty_like(picture)
    veil(picture, dst)
    assert abs(correlation(dst, picture)) < 0.05
    assert dst[:, :400].mean() == pytest.approx(picture[:, :400].mean(), abs=5)
    assert dst[:, -400:].mean() == pytest.approx(picture[:, -400:].mean(), abs=5)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (8, 8), (17, 3), (40, 1)])
def test_the_veil_of_a_tiny_picture_is_coarser_than_it(size):
    pixels = a_frame(size=size).pixels
    dst = np.zeros((20, 30, 3), np.uint8)
    veil(pixels, dst)
    assert dst.any()


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)],
)
def test_the_veil_of_no_picture_is_grey(pixels):
    dst = np.zeros((4, 4, 3), np.uint8)
    veil(pixels, dst)
    assert (dst == dst[0, 0, 0]).all()
    assert dst.all()


def test_a_source_that_changed_its_size_is_veiled_too():
    out = an_output()
    PolicyGate(FailurePolicy.PASSTHROUGH, size=SIZE).apply(out, a_frame(size=(64, 48)), Reason.LATE, 0)
    assert out.std() < 30


def test_an_exception_inside_leaves_grey_and_nothing_of_the_wearer(monkeypatch):
    def broken(*_, **__):
        raise cv2.error("out of memory")

    gate, frame, out = PolicyGate(FailurePolicy.VEIL, size=SIZE), a_frame(), a_frame().pixels.copy()
    monkeypatch.setattr(cv2, "resize", broken)
    with pytest.raises(cv2.error):
        gate.apply(out, frame, Reason.NO_FACE, 0)
    assert (out == out[0, 0, 0]).all()


def test_hold_shows_the_last_good_picture_until_its_time_is_over():
    gate = PolicyGate(FailurePolicy.HOLD, size=SIZE, hold_s=0.5)
    good = GOOD.copy()
    gate.remember(good, 10 * SECOND)
    good[:] = 200  # the gate must have its own copy
    out = an_output()
    for now in (10 * SECOND, 10 * SECOND + SECOND // 2):
        assert gate.apply(out, a_frame(), Reason.NO_FACE, now) is FailurePolicy.HOLD
        np.testing.assert_array_equal(out, GOOD)
    assert gate.apply(out, a_frame(), Reason.NO_FACE, 10 * SECOND + SECOND // 2 + 1) is FailurePolicy.VEIL
    assert out.mean() > 90
    gate.remember(GOOD, 20 * SECOND)
    assert gate.apply(out, a_frame(), Reason.LATE, 20 * SECOND) is FailurePolicy.HOLD


def test_hold_without_a_good_picture_or_with_a_clock_that_ran_back_is_the_veil():
    gate = PolicyGate(FailurePolicy.HOLD, size=SIZE)
    out = an_output()
    assert gate.apply(out, a_frame(), Reason.NO_FACE, 0) is FailurePolicy.VEIL
    gate.remember(GOOD, 5 * SECOND)
    assert gate.apply(out, a_frame(), Reason.NO_FACE, 4 * SECOND) is FailurePolicy.VEIL


def test_lapsed_consent_ends_the_hold_for_good():
    gate = PolicyGate(FailurePolicy.HOLD, size=SIZE)
    gate.remember(GOOD, 0)
    out = an_output()
    assert gate.apply(out, a_frame(), Reason.CONSENT, 1) is FailurePolicy.VEIL
    assert gate.apply(out, a_frame(), Reason.NO_FACE, 2) is FailurePolicy.VEIL


def test_the_plain_card_says_something_and_is_ready_made():
    card = make_card(SIZE, None)
    assert (card > 150).any()
    assert (card[:40] == card[0, 0]).all()
    out = an_output()
    assert PolicyGate(FailurePolicy.CARD, size=SIZE).apply(out, a_frame(), Reason.NO_FACE, 0) is FailurePolicy.CARD
    np.testing.assert_array_equal(out, card)


@pytest.mark.parametrize("shape", [(50, 300), (300, 50), (900, 1600), (9, 16)])
def test_a_card_from_a_file_is_fitted_in_whole(shape, tmp_path):
    picture = np.zeros((*shape, 3), np.uint8)
    picture[:] = (0, 0, 250)
    path = tmp_path / "kärt.png"
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    gate = PolicyGate(FailurePolicy.CARD, size=SIZE, card=path)
    path.unlink()
    out = an_output()
    gate.apply(out, a_frame(), Reason.SOURCE_LOST, 0)
    red = (out == (0, 0, 250)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert len(rows) in (180, 179) or len(columns) in (320, 319)
    assert len(columns) / len(rows) == pytest.approx(shape[1] / shape[0], rel=0.05)
    assert red.sum() == len(rows) * len(columns)


def test_a_card_that_is_no_picture_is_refused_at_the_start(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("missing.png", "empty.png", "text.png", "."):
        with pytest.raises(SettingsError):
            PolicyGate(FailurePolicy.CARD, size=SIZE, card=tmp_path / name)


def test_settings_that_make_no_sense_are_refused():
    for arguments in ({"hold_s": -1.0}, {"hold_s": float("nan")}, {"size": (0, 5)}):
        with pytest.raises(SettingsError):
            PolicyGate(FailurePolicy.VEIL, **{"size": SIZE, **arguments})
    with pytest.raises(ValueError):
        PolicyGate("whatever", size=SIZE)


def test_the_names_are_the_ones_of_the_command_line():
    assert [policy.value for policy in FailurePolicy] == ["veil", "hold", "card", "passthrough"]
