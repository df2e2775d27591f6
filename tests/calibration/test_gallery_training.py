"""The gallery's recipe, very small: render, train, polish, package, and each step once only."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from calibration.gallery import gallery
from calibration.gallery_training import GalleryHooks, GalleryRecipe, package_gallery, plan_of, recipe, train_gallery
from calibration.plan import GalleryPlan, PeoplePlan
from engines import checkpoint
from engines.augment import MILD_ENCODER, AugmentConfig
from engines.errors import DataError, TrainingError
from engines.mesh_subset import MESH_SUBSET
from engines.network import NetworkConfig
from engines.persona import read_persona
from engines.polish import PolishConfig
from engines.universal import UniversalConfig, mildly
from engines.universal_bundle import load_bundle, sample_codes

PLAN = GalleryPlan(
    personas=("vera", "yuki"), states=6, states_per_persona=5, wearers=2, states_per_wearer=4, validation_wearers=1,
    validation_states=4, validation_states_per_wearer=4, size=40,
)  # fmt: skip
SIZES = NetworkConfig(
    tier="test", input_size=32, output_size=32, code_size=24, stem_width=0, encoder_widths=(16, 24, 32),
    encoder_residuals=(False, False, True), grid=4, grid_width=32, decoder_widths=(24, 16),
    mesh_points=len(MESH_SUBSET),
)  # fmt: skip
USUAL = UniversalConfig(network=SIZES, steps=4, batch=4, warmup_steps=1, validation_faces=4, threads=1)
SMALL = GalleryRecipe(
    "test",
    PLAN,
    mildly(USUAL),
    PolishConfig(steps=3, batch=4, warmup_steps=1, check_every=2, validation_faces=4, threads=1, report_seconds=0),
    first=replace(USUAL, steps=3),
)


def test_plan_and_description_are_one():
    for plan in (GalleryPlan(), GalleryPlan(seed=7, wearers=11), PLAN):
        assert plan_of(plan.info()) == plan
    with pytest.raises(DataError, match="no gallery"):
        plan_of(PeoplePlan().info())
    with pytest.raises(DataError, match="no gallery"):
        plan_of(replace(PLAN.info(), seeds={"else": 1}))


def test_the_recipe_of_a_tier():
    made = recipe("small", seed=5, minutes=90, polish_minutes=3)
    assert (made.plan.seed, made.universal.seed, made.polish.seed) == (5, 5, 5)
    assert made.first is not None
    assert (made.first.max_minutes, made.universal.max_minutes, made.polish.max_minutes) == (54, 36, 3)
    assert (made.first.augment, made.universal.augment) == (AugmentConfig(), MILD_ENCODER)
    assert (made.universal.network.tier, made.universal.network.mesh_points) == ("small", len(MESH_SUBSET))


def test_packaging_without_a_run_says_so(tmp_path):
    with pytest.raises(DataError):
        package_gallery(tmp_path, "tiny")


@pytest.mark.egl
def test_from_seeds_to_files_with_interruptions(renderer, tmp_path):
    heard = []

    def interrupt(name, progress):
        heard.append(name)
        if name == "yuki":
            raise KeyboardInterrupt

    first = train_gallery(SMALL, tmp_path, jobs=1, hooks=GalleryHooks(training=interrupt))
    assert (first["stopped"], first["at"]) == ("interrupted", "yuki")
    assert not (tmp_path / "test" / "personas").exists()
    # The universal stage's last stretch began with its first one.
    earlier = checkpoint.load(tmp_path / "test" / "first" / "people", "people").meta["trunk_sha256"]
    (state,) = (tmp_path / "test" / "universal" / "state").glob("*.json")
    assert f'"start": "{earlier}"' in state.read_text()

    # Nothing that is finished is done again: who was rendered, trained and polished stays.
    def files(pattern):
        found = (p for p in tmp_path.rglob(pattern) if not {"yuki", "universal-test"} & set(p.parts))
        return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in found}

    before = files("*.npz") | files("trunk.*") | files("decoder.*")
    assert before
    again = []
    hooks = GalleryHooks(training=lambda name, _: again.append(name))
    report = train_gallery(SMALL, tmp_path, jobs=1, hooks=hooks)
    assert set(again) == {"yuki"}
    assert files("*.npz") | files("trunk.*") | files("decoder.*") == before
    assert [row["name"] for row in report["personas"]] == ["vera", "yuki"]

    universal = json.loads((tmp_path / "test" / "universal" / "config.json").read_text())
    for row in report["personas"]:
        persona = read_persona(tmp_path / "test" / "personas" / f"{row['name']}.persona")
        m, facts = persona.manifest, persona.report
        assert (m.kind, m.tier, m.seed) == ("invented", "test", gallery()[row["name"]].who.seed)
        assert (m.title, m.mesh_points) == (gallery()[row["name"]].title, len(MESH_SUBSET))
        assert m.code_calibration
        assert len(m.code_reference.mean) == 24
        assert persona.preview is not None
        assert facts["validation"]["pairs"] == 4
        assert {"swap", "picture_alone", "points_alone"} < set(facts["validation"])
        assert facts["validation"]["swap"]["psnr_masked_db"] >= facts["polish"]["start"]["psnr_masked_db"] - 0.01
        assert facts["plan"]["personas"] == ["vera", "yuki"]
        assert facts["universal"]["config"] == universal
        assert facts["command"].startswith("personacam train gallery --tier test --seed 0")
        assert facts["export"]["float32"]["max_abs_error"] < 1e-3
    files_again = [(tmp_path / "test" / "personas" / f"{n}.persona").read_bytes() for n in PLAN.personas]
    package_gallery(tmp_path, "test")
    assert files_again == [(tmp_path / "test" / "personas" / f"{n}.persona").read_bytes() for n in PLAN.personas]

    # Sharpened on request: another head, and the file says so.
    package_gallery(tmp_path, "test", sharpen_loss_db=0.3)
    sharp = read_persona(tmp_path / "test" / "personas" / "vera.persona").report
    assert sharp["command"].endswith(" --sharpen-loss 0.3")
    assert sharp["sharpened"]["after"]["psnr_masked_db"] >= sharp["sharpened"]["before"]["psnr_masked_db"] - 0.3
    assert facts["sharpened"] is None

    # Settings of another universal run do not matter to somebody who keeps it.
    other = replace(SMALL, universal=replace(SMALL.universal, batch=8))
    kept = train_gallery(other, tmp_path, jobs=1, keep_universal=True)
    assert kept["stopped"] == "finished"
    with pytest.raises(TrainingError, match="another run"):
        train_gallery(other, tmp_path, jobs=1)
    # How often it reports does not make it another run.
    train_gallery(replace(SMALL, universal=replace(SMALL.universal, report_seconds=9)), tmp_path, jobs=1, hooks=hooks)
    assert set(again) == {"yuki"}

    # What ships of the universal stage is the run's in half the bytes, and says what the personas say.
    bundle = load_bundle(tmp_path / "test" / "universal-test")
    run = checkpoint.load(tmp_path / "test" / "universal" / "people", "people")
    assert np.allclose(bundle.universal.people.vectors, run.tensors["vectors"], atol=1e-3)
    assert bundle.universal.people.names == tuple(run.meta["names"])
    sizes = [(tmp_path / "test" / x / "trunk.safetensors").stat().st_size for x in ("universal", "universal-test")]
    assert sizes[1] < 0.55 * sizes[0]
    assert sample_codes(bundle).shape == (24, 24)
    assert np.allclose(bundle.samples.code_mean, m.code_reference.mean)

    # Who was not polished ships as the fold; longer training makes other polished decoders.
    longer = replace(SMALL, universal=replace(SMALL.universal, steps=5))
    assert train_gallery(longer, tmp_path, jobs=1)["stopped"] == "finished"
    assert len(list((tmp_path / "test").glob("polish-*"))) == 2
    for folder in (tmp_path / "test").glob("polish-*/yuki"):
        (folder / "decoder.json").unlink()
    assert {r["name"]: r["polished"] for r in package_gallery(tmp_path, "test")["personas"]} == {
        "vera": True, "yuki": False,
    }  # fmt: skip
