"""Guided expressions in a world whose codes are known: what is biased is found, and moved to where it should be."""

import numpy as np
import pytest

from calibration.calibrate_wearer import (
    GUIDE,
    LEAST,
    REACTION_S,
    USUAL_RANGE,
    calibrate,
    collect,
    guide_seconds,
    guided,
    make_reference,
    prompt_at,
    read_reference,
    shipped_reference,
)
from calibration.consent_gates import shown_only
from calibration.guided_map import GuidedPerson
from engines.errors import DataError
from engines.persona import read_persona
from engines.types import Frame
from engines.wearer import MAX_GAIN
from realtime.session import persona_store

C = 40
FPS = 15
SPREAD = np.linspace(0.5, 2.0, C).astype(np.float32)
PIXELS = np.zeros((4, 4, 3), np.uint8)


class World:
    """Codes are neutral + light + what is done; light moves the code along the smile's axis as well."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.smile, self.gape, self.light = (self.rng.normal(0, 1, C) for _ in range(3))
        self.smile *= 7 / np.linalg.norm(self.smile)
        self.gape -= self.smile * (self.gape @ self.smile) / 49
        self.gape *= 8 / np.linalg.norm(self.gape)
        self.light += 0.3 * self.smile

    def code(self, *, smile=0.0, gape=0.0, light=0.0, own=0.0):
        white = smile * self.smile + gape * self.gape + light * self.light + own + self.rng.normal(0, 0.05, C)
        return (white * SPREAD).astype(np.float32)

    def reference(self, people=30):
        some = []
        for _ in range(people):
            light, own = self.rng.normal(), self.rng.normal(0, 0.1, C)
            plain = self._guided(light, own)
            biased = []
            for _ in range(2):
                rest = {name: self.rng.uniform(-1, 1) for name in ("smile", "gape")}
                wanted = -(rest["smile"] * self.smile + rest["gape"] * self.gape) * SPREAD
                biased.append((self._guided(light, own, **rest), wanted.astype(np.float32)))
            some.append(GuidedPerson(plain, biased))
        return make_reference("e" * 64, SPREAD, some)

    def _guided(self, light, own, smile=0.0, gape=0.0):
        return {
            "neutral": self.code(smile=smile, gape=gape, light=light, own=own),
            "smile": self.code(smile=smile + 1, gape=gape, light=light, own=own),
            "open": self.code(smile=smile, gape=gape + 1, light=light, own=own),
        }

    def wearer(self, *, rest_smile=0.0, rest_gape=0.0, reach=1.0, light=0.0):
        rest = {"smile": rest_smile, "gape": rest_gape, "light": light}
        done = {"neutral": {}, "smile": {"smile": reach}, "open": {"gape": reach}}
        return guided({
            name: [self.code(**(rest | {k: rest[k] + v for k, v in done[name].items()})) for _ in range(least)]
            for name, least in LEAST.items()
        })  # fmt: skip


def test_a_biased_face_at_rest_becomes_neutral_and_the_light_stays():
    world = World()
    reference = world.reference()
    light = 1.5
    found = calibrate(world.wearer(rest_smile=0.6, rest_gape=-0.4, light=light), reference)
    assert found.rest["smile"] == pytest.approx(0.6, abs=0.12)
    assert found.rest["open"] == pytest.approx(-0.4, abs=0.12)
    seen = np.stack([world.code(smile=0.6 + s, gape=-0.4, light=light) for s in (0.0, 0.5, 1.0)])
    wanted = np.stack([world.code(smile=s, light=light) for s in (0.0, 0.5, 1.0)])
    before = np.linalg.norm((seen - wanted) / SPREAD, axis=1).mean()
    after = np.linalg.norm((found.calibration.apply(seen) - wanted) / SPREAD, axis=1).mean()
    assert after < 0.35 * before


def test_without_a_bias_hardly_anything_is_moved():
    world = World(1)
    reference = world.reference()
    found = calibrate(world.wearer(light=-1.0), reference)
    code = world.code(light=-1.0)
    moved = np.linalg.norm((found.calibration.apply(code) - code) / SPREAD)
    assert moved < 0.05 * 7, "a twentieth of a smile"


def test_only_an_unusual_range_is_stretched_around_the_face_at_rest_and_never_by_much():
    world = World(2)
    reference = world.reference()
    reaches = (2.5, 2.0, 1.3, 1.0, 0.7, 0.58, 0.1)
    gains = [float(calibrate(world.wearer(reach=reach), reference).calibration.gain[0]) for reach in reaches]
    expected = (1 / MAX_GAIN, 1 / MAX_GAIN, 1.0, 1.0, 1.0, USUAL_RANGE[0] / 0.58, MAX_GAIN)
    assert gains == pytest.approx(expected, abs=0.04)
    found = calibrate(world.wearer(reach=0.5), reference).calibration
    rest, full = world.code(), world.code(smile=0.5)
    assert np.linalg.norm(found.apply(rest) / SPREAD) < 1.0, "rest stays at rest"
    along = reference.along(found.apply(np.stack([rest, full])))[:, 0]
    assert along[1] - along[0] == pytest.approx(0.5 * MAX_GAIN * 7, rel=0.06)


def test_a_face_that_smiles_at_rest_and_so_hardly_smiles_more_is_not_stretched():
    world = World(4)
    seen = world.wearer(rest_smile=0.8)
    seen.codes["smile"][:] = world.code(smile=1.0)
    assert float(calibrate(seen, world.reference()).calibration.gain[0]) == 1.0


def test_a_reference_survives_its_file_and_few_people_are_none(tmp_path):
    world = World(3)
    reference = world.reference()
    (tmp_path / "guided.npz").write_bytes(reference.encode())
    again = read_reference(tmp_path / "guided.npz")
    seen = world.wearer(rest_smile=0.5)
    assert np.allclose(
        calibrate(seen, again).calibration.shift, calibrate(seen, reference).calibration.shift, atol=1e-3
    )
    (tmp_path / "guided.npz").write_bytes(reference.encode()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        read_reference(tmp_path / "guided.npz")
    with pytest.raises(DataError, match="people"):
        world.reference(people=5)


def test_the_shipped_personas_have_a_reference():
    manifest = read_persona(persona_store().find("vera"), admit=shown_only).manifest
    reference = shipped_reference(manifest.encoder_sha256)
    assert reference.axes.shape == (2, manifest.code_size)
    assert np.allclose(reference.axes @ reference.axes.T, np.eye(2), atol=1e-5)
    # Somebody as usual is left alone; a smile at rest is taken back along the smile.
    usual = [part * reference.spread for part in np.split(reference.usual, 3)]
    neutral = {"neutral": usual[0], "smile": usual[0] + usual[1], "open": usual[0] + usual[2]}
    moved, rest = reference.correction(neutral)
    assert np.allclose(moved, 0, atol=1e-4)
    assert np.allclose(rest, 0, atol=1e-4)
    smile = 0.5 * usual[1]
    smiling = {name: code + smile * (name != "smile") for name, code in neutral.items()}
    moved, rest = reference.correction(smiling)
    assert rest[0] > 0.1
    assert (moved / reference.spread) @ reference.axes[0] < -0.1 * reference.reach[0]
    with pytest.raises(DataError, match="not known"):
        shipped_reference("0" * 64)


def frames(seconds):
    for index in range(int(seconds * FPS)):
        at = 7_000_000_000 + index * 10**9 // FPS
        yield Frame(PIXELS, index, at, at)


def test_prompts_follow_the_frames_own_time():
    asked, read = [], []

    def code(frame):
        read.append(frame.index)
        return np.full(C, frame.index, np.float32)

    seen = collect(frames(60), code, lambda prompt, left: asked.append((prompt.name, left)))
    assert [name for i, (name, _) in enumerate(asked) if i == 0 or asked[i - 1][0] != name] == [p.name for p in GUIDE]
    assert all(left > 0 for _, left in asked)
    assert read == list(range(round(guide_seconds() * FPS))), "the face is followed in every frame, and no longer"
    assert seen.missed == 0
    for name, codes in seen.codes.items():
        for index in codes[:, 0]:
            prompt, for_s = prompt_at((int(index) * 10**9 // FPS) / 1e9)
            assert prompt.name == name
            assert for_s >= REACTION_S
    assert prompt_at(guide_seconds()) is None


def test_a_face_that_is_not_seen_is_said():
    with pytest.raises(DataError, match="smile: the face was seen in 0 frames"):
        collect(frames(30), lambda frame: np.ones(C, np.float32) if frame.index < 4 * FPS else None)
    with pytest.raises(DataError, match="neutral"):
        collect([], lambda frame: None)
