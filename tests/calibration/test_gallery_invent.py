"""Persona files of nobody: the same from the same seed, and never too near to the enrolled."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from calibration import gallery_embedding
from calibration.gallery_invent import (
    MOST_ATTEMPTS,
    enrolled_embedding,
    invent,
    invented_space,
    write_invented,
    write_sheet,
)
from engines.errors import SettingsError
from engines.invent import shown
from engines.mesh_subset import MESH_SUBSET
from engines.network import NetworkConfig
from engines.persona import read_persona
from engines.run_folder import load_universal
from engines.universal_bundle import WearerSamples, load_bundle, sample_codes, save_bundle
from engines.universal_networks import UniversalNetworks, save_universal
from realtime.cli import app

SIZES = NetworkConfig(
    tier="test", input_size=32, output_size=32, code_size=24, stem_width=0, encoder_widths=(16, 24, 32),
    encoder_residuals=(False, False, True), grid=4, grid_width=32, decoder_widths=(24, 16),
    mesh_points=len(MESH_SUBSET),
)  # fmt: skip
PLAIN = {"spread": 1.0, "sliders": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained networks, whose people differ all the same."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("bundle")
    networks = UniversalNetworks(SIZES, 8, wearers=0, truths=(), seed=1).eval()
    with torch.no_grad():
        networks.people.weight.mul_(60)
        networks.trunk.trunk.head.weight.mul_(20)
    save_universal(root / "run", networks, ["yuki", *(f"wearer-{i}" for i in range(7))], {})
    rng = np.random.default_rng(0)
    samples = WearerSamples(
        rng.integers(0, 256, (24, 32, 32, 3), np.uint8), rng.uniform(0.2, 0.8, (24, 127, 2)).astype(np.float32),
        np.zeros(24, np.float32), np.ones(24, np.float32),
    )  # fmt: skip
    save_bundle(root / "bundle", load_universal(root / "run"), samples, {})
    return root / "bundle"


@pytest.fixture(scope="module")
def bundle(folder):
    return load_bundle(folder)


@pytest.fixture(scope="module")
def space(bundle):
    return invented_space(bundle)


def embed(picture):
    """An embedding whose distances are those of small pictures."""
    small = picture[::48, ::48].astype(np.float64) / 255
    return np.resize(small.ravel(), 128) * 3


def test_drawn_people_are_not_in_the_space(bundle, space):
    assert space.people == len(bundle.universal.people.names) - 1


def test_the_same_seed_is_the_same_file_and_another_another(bundle, space, tmp_path):
    def written(name, seed, **options):
        found = invent(bundle, space, seed, **{**PLAIN, **options}, enrolled={}, embed=None)
        write_invented(tmp_path / name / "nobody.persona", "Nobody", bundle, found, {"spread": 1.0})
        return (tmp_path / name / "nobody.persona").read_bytes()

    first = written("a", 7)
    assert first == written("b", 7)
    assert first != written("c", 8)
    assert first != written("d", 7, sliders={0: 2.0})
    persona = read_persona(tmp_path / "a" / "nobody.persona")
    m = persona.manifest
    assert (m.name, m.kind, m.seed, m.tier, m.mesh_points) == ("nobody", "invented", 7, "test", 127)
    assert m.code_reference is not None
    assert persona.preview is not None
    assert persona.report["invented"]["nearest_enrolled"] is None
    assert "compared with nobody" in persona.report["invented"]["statement"]
    seven = invent(bundle, space, 7, **PLAIN, enrolled={"far": np.full(128, 99.0)}, embed=embed)
    _, report = write_invented(tmp_path / "compared.persona", "Nobody", bundle, seven, {})
    assert report["invented"]["statement"] == "not one of the enrolled people"
    assert report["invented"]["nearest_enrolled"] > 0.6
    assert "Earth" not in json.dumps(persona.report)


def test_who_is_too_near_is_passed_over_and_said(bundle, space):
    def face_of(invention):
        from calibration.gallery_invent import enlarged

        return embed(enlarged(shown(invention.face.decoder, sample_codes(bundle)[:1])[0]))

    first = invent(bundle, space, 7, **PLAIN, enrolled={}, embed=None)
    enrolled = {"far": face_of(first) + 9, "near": face_of(first) + 0.01}
    other = invent(bundle, space, 7, **PLAIN, enrolled=enrolled, embed=embed)
    assert other.face.attempt > 0
    assert not torch.equal(other.face.coordinates, first.face.coordinates)
    assert other.rejected[0]["near"] == "near"
    assert other.rejected[0]["distance"] < 0.6 <= other.nearest
    # Far enough is far enough, and the first sample stays.
    kept = invent(bundle, space, 7, **PLAIN, enrolled={"far": enrolled["far"]}, embed=embed)
    assert (kept.face.attempt, kept.rejected) == (0, ())
    with pytest.raises(SettingsError, match=f"{MOST_ATTEMPTS} samples"):  # the mean face only
        invent(bundle, space, 7, spread=0, sliders={}, enrolled={"x": np.zeros(128)}, embed=lambda _: np.zeros(128))
    with pytest.raises(SettingsError, match="embedding"):
        invent(bundle, space, 7, **PLAIN, enrolled=enrolled, embed=None)


def test_a_sample_that_shows_no_face_is_not_used(bundle, space):
    looks = iter([None, None, np.full(128, 9.0)])
    found = invent(bundle, space, 1, **PLAIN, enrolled={"x": np.zeros(128)}, embed=lambda _: next(looks))
    assert found.face.attempt == 2
    assert [row["reason"] for row in found.rejected] == ["it shows no face"] * 2


def test_an_enrolled_embedding_is_the_stored_one_or_that_of_its_network(bundle, space, tmp_path):
    found = invent(bundle, space, 3, **PLAIN, enrolled={}, embed=None)
    path = tmp_path / "someone.persona"
    write_invented(path, "Someone", bundle, found, {})
    persona = read_persona(path)
    seen = []
    enrolled_embedding(persona, bundle.samples, lambda picture: seen.append(picture) or np.zeros(128))
    expected = shown(found.face.decoder, sample_codes(bundle)[:1])[0].astype(int)
    assert seen[0].shape == (384, 384, 3)
    assert np.abs(seen[0][5::12, 5::12].astype(int) - expected).mean() < 12  # stored weights, and enlarged
    stored = replace(persona, report={"embedding": [0.5] * 128})
    assert enrolled_embedding(stored, bundle.samples, embed).tolist() == [0.5] * 128
    itself = {"someone": enrolled_embedding(persona, bundle.samples, embed)}
    assert invent(bundle, space, 3, **PLAIN, enrolled=itself, embed=embed).face.attempt > 0


def test_a_name_that_is_none(bundle, space, tmp_path):
    found = invent(bundle, space, 3, **PLAIN, enrolled={}, embed=None)
    with pytest.raises(SettingsError, match="name"):
        write_invented(tmp_path / "No Body.persona", "x", bundle, found, {})


def test_the_sheet_shows_wearers_and_faces(bundle, space, tmp_path):
    import cv2

    faces = [invent(bundle, space, seed, **PLAIN, enrolled={}, embed=None).face for seed in (1, 2)]
    write_sheet(tmp_path / "sheet.png", bundle, faces)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (3 * 32, 6 * 32, 3)


def test_the_verb_says_what_was_compared(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_embedding, "dlib_embedder", lambda: embed)

    def said(*arguments):
        done = CliRunner().invoke(app, ["personas", "invent", "--universal", str(folder), *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stderr

    alone = said("--seed", 5, "--out", tmp_path / "a.persona")
    assert "compared with nobody" in alone
    assert "not one of" not in alone
    beside = said("--seed", 9, "--out", tmp_path / "b.persona", "--not-like", tmp_path / "a.persona")
    assert "not one of the enrolled people (1 compared, the nearest at" in beside


def command(*arguments):
    done = CliRunner().invoke(app, ["personas", "invent", *map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])


def test_the_verb(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_embedding, "dlib_embedder", lambda: embed)
    out = tmp_path / "nobody.persona"
    code, said = command("--universal", folder, "--seed", 5, "--out", out, "--slider", "pc1=1.5")
    assert (code, said["compared_with"]) == (0, [])
    assert read_persona(out).report["invented"]["sliders"] == {"pc1": 1.5}
    assert read_persona(out).report["invented"]["coordinates"][0] == 1.5
    code, said = command(
        "--universal", folder, "--seed", 5, "--count", 2, "--out", tmp_path / "two" / "n.persona",
        "--slider", "pc1=1.5", "--not-like", out, "--sheet", tmp_path / "sheet.png",
    )  # fmt: skip
    assert code == 0
    assert [row["name"] for row in said["personas"]] == ["n-5", "n-6"]
    assert said["compared_with"] == ["nobody.persona"]
    assert said["personas"][0]["rejected"][0]["near"] == "nobody.persona"
    assert said["personas"][0]["attempt"] > 0
    assert (tmp_path / "sheet.png").exists()
    code, said = command("--universal", folder, "--list-sliders")
    assert (code, said["sliders"][0]["name"]) == (0, "pc1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.persona", "--slider", "pc99=1"], "no slider"),
        (["--out", "x.persona", "--slider", "pc1"], "cannot read"),
        (["--out", "x.persona", "--slider", "pc1=7"], "cannot be 7"),
        (["--out", "x.png"], "no .persona"),
        ([], "missing"),
        (["--out", "x.persona", "--not-like", "nowhere.persona"], "nowhere.persona"),
    ],
)
def test_the_verb_names_the_repair(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, said = command("--universal", folder, *arguments)
    assert code == 1
    assert message in said["error"]["message"]
    assert said["error"]["hint"]
    assert list(tmp_path.iterdir()) == []


def test_without_universal_networks_it_says_where_they_come_from(tmp_path):
    code, said = command("--universal", tmp_path, "--out", "x.persona")
    assert code == 1
    assert "train gallery" in said["error"]["hint"]


@pytest.mark.egl
def test_a_face_is_nearer_to_itself_than_to_another_and_grey_is_no_face(renderer):
    from calibration.people.identity import cast
    from calibration.people.portrait import portrait
    from engines.errors import MissingDependencyError

    try:
        real = gallery_embedding.dlib_embedder()
    except MissingDependencyError as error:
        pytest.skip(error.message)
    vera, kofi = (portrait(renderer, cast()[name])[60:330, 57:327] for name in ("vera", "kofi"))
    found = [real(np.ascontiguousarray(p)) for p in (vera, vera[4:-4, 4:-4], kofi)]
    assert all(vector is not None and vector.shape == (128,) for vector in found)
    assert np.linalg.norm(found[0] - found[1]) < 0.3 < 0.6 < np.linalg.norm(found[0] - found[2])
    assert real(np.full((384, 384, 3), 128, np.uint8)) is None
