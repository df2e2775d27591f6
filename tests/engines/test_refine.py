from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from engines import checkpoint, refine
from engines.collapse import CollapseLimits
from engines.discriminator import load_discriminator
from engines.errors import DataError, SettingsError, TrainingError
from engines.gan_losses import GanWeights
from engines.mesh_subset import MESH_SUBSET
from engines.network import build_decoder, build_encoder
from engines.pairs import PairedSet
from engines.refine import RefineConfig
from engines.train import TrainConfig, train_first


class Clock:
    """Each reading is one second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Killed(BaseException):
    """Like SIGKILL: nothing in the loop may catch it."""


@pytest.fixture
def quick() -> RefineConfig:
    return RefineConfig(
        steps=6, batch=4, warmup_steps=2, adversarial_warmup_steps=2, held_out_every=4, validation_faces=8, threads=1,
        report_seconds=0, gan=GanWeights(penalty_every=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def blurred(small_sizes, cartoons, tmp_path_factory):
    """Encoder and decoder after a training that is far too short for detail."""
    cfg = TrainConfig(
        network=small_sizes, steps=200, batch=16, learning_rate=4e-3, warmup_steps=20, ema=0.98, held_out_every=4,
        validation_faces=24, threads=1,
    )  # fmt: skip
    result = train_first(cfg, cartoons, tmp_path_factory.mktemp("blurred"), personas=["mara"])
    encoder, _ = checkpoint.load_encoder(result.encoder)
    decoder, _ = checkpoint.load_decoder(result.decoders["mara"])
    return encoder, {"mara": decoder}, result.scores["mara"]


@pytest.fixture
def fresh(small_sizes):
    """Untrained networks of two personas, for what does not depend on quality."""
    names = ("mara", "odin")
    return build_encoder(small_sizes, seed=0), {n: build_decoder(small_sizes, seed=i) for i, n in enumerate(names)}


def state(load, stem):
    return load(stem)[0].state_dict()


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_refining_sharpens_and_keeps_the_face(blurred, cartoons, tmp_path):
    encoder, decoders, start = blurred
    before = {k: v.clone() for k, v in decoders["mara"].state_dict().items()}
    cfg = RefineConfig(
        steps=90, batch=8, learning_rate=1e-3, discriminator_rate=2e-3, warmup_steps=10, ema=0.97, held_out_every=4,
        adversarial_warmup_steps=40, validation_faces=24, threads=1, report_seconds=0, gan=GanWeights(adversarial=0.3),
    )  # fmt: skip
    seen = []
    result = refine.refine(cfg, cartoons, encoder, decoders, tmp_path / "gan", seen.append)
    without = replace(cfg, gan=GanWeights(adversarial=0, feature_matching=0))
    plain = refine.refine(without, cartoons, encoder, decoders, tmp_path / "plain")

    found, control = result.scores["mara"], plain.scores["mara"]
    assert result.start_psnr_masked_db["mara"] == pytest.approx(start.psnr_masked_db)
    assert start.sharpness_ratio < control.sharpness_ratio < 0.1
    assert 1.5 * control.sharpness_ratio < found.sharpness_ratio < 1
    assert found.psnr_masked_db > start.psnr_masked_db - 0.5
    assert found.mask_iou > start.mask_iou - 0.02
    assert seen[-1].fraction == 1
    assert set(seen[0].loss) == {
        "charbonnier", "regions", "dssim", "laplacian", "mask_bce", "mask_dice", "adversarial", "feature_matching",
        "total_variation", "background", "discriminator", "r1", "r2", "variety", "total",
    }  # fmt: skip

    assert equal(state(checkpoint.load_encoder, result.encoder), encoder.state_dict())
    assert equal(before, decoders["mara"].state_dict())  # what was passed in is not changed
    assert not equal(before, state(checkpoint.load_decoder, result.decoders["mara"]))
    report = json.loads((tmp_path / "gan" / "report.json").read_text())
    assert report["scores"]["mara"]["sharpness_ratio"] == found.sharpness_ratio
    assert cv2.imread(str(result.sheet)).shape == (8 * 32, 3 * 32, 3)
    about = json.loads((tmp_path / "gan" / "decoder-mara.json").read_text())
    assert about["encoder_sha256"] == json.loads((tmp_path / "gan" / "encoder.json").read_text())["sha256"]


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_killed_run_continues_to_the_same_weights(quick, fresh, cartoons, tmp_path, spectral_norm):
    cfg = replace(quick, spectral_norm=spectral_norm)
    whole = refine.refine(cfg, cartoons, *fresh, tmp_path / "whole", clock=Clock())

    def kill(progress):
        if progress.step == 3:
            raise Killed

    often = replace(cfg, checkpoint_minutes=0.0, threads=2)
    with pytest.raises(Killed):
        refine.refine(often, cartoons, *fresh, tmp_path / "killed", kill, clock=Clock())
    assert not (tmp_path / "killed" / "report.json").exists()
    steps = []
    again = refine.refine(often, cartoons, *fresh, tmp_path / "killed", lambda p: steps.append(p.step), clock=Clock())
    assert steps == [4, 5, 6]
    assert again.start_psnr_masked_db == whole.start_psnr_masked_db
    for name in ("mara", "odin"):
        assert equal(*(state(checkpoint.load_decoder, r.decoders[name]) for r in (whole, again)))
    assert equal(*(state(load_discriminator, r.discriminator) for r in (whole, again)))
    assert equal(
        *(checkpoint.load(tmp_path / f / "state/step-00000006", "training").tensors for f in ("whole", "killed"))
    )


def test_ctrl_c_saves_and_another_run_is_not_continued(quick, fresh, cartoons, tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    result = refine.refine(quick, cartoons, *fresh, tmp_path, interrupt)
    assert (result.stopped, result.step) == ("interrupted", 3)
    encoder, decoders = fresh
    swapped = {"mara": decoders["odin"], "odin": decoders["mara"]}
    for other in ((replace(quick, seed=1), fresh, None), (quick, (encoder, swapped), None),
                  (quick, fresh, {name: torch.ones(3) for name in decoders})):  # fmt: skip
        with pytest.raises(TrainingError, match="another run"):
            refine.refine(other[0], cartoons, *other[1], tmp_path, people=other[2])
    assert refine.refine(quick, cartoons, *fresh, tmp_path).step == 6
    weights = next((tmp_path / "state").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="sha256"):
        refine.refine(quick, cartoons, *fresh, tmp_path)


def good_weights(folder, decoders):
    """Whether the folder still holds what came in."""
    return all(
        equal(d.state_dict(), state(checkpoint.load_decoder, folder / f"decoder-{n}")) for n, d in decoders.items()
    )


def test_a_critic_that_always_wins_is_a_collapse(quick, blurred, cartoons, tmp_path):
    encoder, decoders, _ = blurred
    # Decoders that cannot move and nothing that tames the critic.
    rigged = replace(
        quick, steps=400, learning_rate=1e-12, discriminator_rate=1e-2, gan=GanWeights(r1=0, r2=0),
        collapse=CollapseLimits(loss=0.2, loss_steps=5),
    )  # fmt: skip
    steps = []
    with pytest.raises(TrainingError, match=r"discriminator's loss has been below 0\.2 for 5 steps") as caught:
        refine.refine(rigged, cartoons, encoder, decoders, tmp_path, lambda p: steps.append(p.step))
    assert 5 <= len(steps) < 399
    assert "r1" in caught.value.hint
    assert good_weights(tmp_path, decoders)


def test_pictures_without_variance_are_a_collapse(quick, blurred, cartoons, tmp_path):
    encoder, decoders, _ = blurred
    constant = build_decoder(encoder.sizes, seed=0)
    with torch.no_grad():
        constant.head.weight.zero_()
    rigged = replace(quick, steps=50, learning_rate=1e-6, collapse=CollapseLimits(variety_steps=4))
    with pytest.raises(TrainingError, match="variance for 4 steps"):
        refine.refine(rigged, cartoons, encoder, {"mara": constant}, tmp_path)
    assert good_weights(tmp_path, {"mara": constant})
    honest = refine.refine(replace(rigged, steps=6), cartoons, encoder, decoders, tmp_path / "honest")
    assert honest.loss["variety"] > 0.15


def test_a_swap_that_leaves_the_truth_is_a_collapse(quick, blurred, cartoons, tmp_path):
    encoder, decoders, _ = blurred
    rigged = replace(quick, steps=40, learning_rate=0.3, warmup_steps=0, checkpoint_minutes=0.05)
    with pytest.raises(TrainingError, match=r"mara has fallen from 16\.\d+ to \d\.\d+ dB") as caught:
        refine.refine(rigged, cartoons, encoder, decoders, tmp_path, clock=Clock())
    assert "last good weights are kept" in caught.value.message
    assert good_weights(tmp_path, decoders)
    assert checkpoint.load_decoder(tmp_path / "decoder-mara")[1]["step"] == 0


def test_nan_stops_and_keeps_the_last_good_weights(quick, fresh, cartoons, tmp_path, monkeypatch):
    honest, calls = refine.augment, []

    def poison(*args, **kwargs):
        batch = honest(*args, **kwargs)
        calls.append(1)
        if len(calls) > 3 * quick.shards:
            batch.inputs[0, 0, 0, 0] = torch.nan
        return batch

    monkeypatch.setattr(refine, "augment", poison)
    with pytest.raises(TrainingError, match="step 3") as caught:
        refine.refine(replace(quick, checkpoint_minutes=0.0), cartoons, *fresh, tmp_path, clock=Clock())
    assert "learning_rate" in caught.value.hint
    kept, meta = checkpoint.load_decoder(tmp_path / "decoder-odin")
    assert meta["step"] == 3
    assert all(bool(torch.isfinite(p).all()) for p in kept.parameters())
    assert all(bool(torch.isfinite(p).all()) for p in load_discriminator(tmp_path / "discriminator")[0].parameters())


def test_an_enrolled_persons_own_crops_are_enough(quick, fresh, cartoons, tmp_path):
    encoder, decoders = fresh
    alone = replace(cartoons, faces={"mara": cartoons.faces["mara"]})
    one = {"mara": decoders["mara"]}
    result = refine.refine(quick, alone, encoder, one, tmp_path, people={"mara": torch.linspace(-1, 1, 40)})
    assert result.step == 6
    assert result.scores["mara"].psnr_masked_db > 0
    assert load_discriminator(result.discriminator)[0].sizes.person_size == 40


def test_mesh_points_reach_an_encoder_that_takes_them(quick, fresh, cartoons, small_sizes, tmp_path):
    _, decoders = fresh
    encoder = build_encoder(replace(small_sizes, mesh_points=len(MESH_SUBSET)), seed=0)
    points = {n: np.random.default_rng(i).uniform(0, 40, (192, 468, 2)) for i, n in enumerate(cartoons.faces)}
    meshed = {n: replace(f, extras={"mesh": points[n].astype(np.float32)}) for n, f in cartoons.faces.items()}
    cfg = replace(quick, steps=2)
    found = refine.refine(cfg, replace(cartoons, faces=meshed), encoder, decoders, tmp_path / "mesh")
    hidden = refine.refine(replace(cfg, points_hidden=1), replace(cartoons, faces=meshed), encoder, decoders,
                           tmp_path / "hidden")  # fmt: skip
    without = refine.refine(replace(cfg, points_hidden=1), cartoons, encoder, decoders, tmp_path / "picture")
    runs = [state(checkpoint.load_decoder, r.decoders["mara"]) for r in (found, hidden, without)]
    assert not equal(runs[0], runs[1])
    assert equal(runs[1], runs[2])
    assert found.start_psnr_masked_db != without.start_psnr_masked_db
    with pytest.raises(DataError, match="without mesh"):
        PairedSet(cartoons, ["mara"], "train", mesh_points=True)


def test_what_does_not_fit_is_named(quick, fresh, cartoons, small_sizes, tmp_path):
    encoder, decoders = fresh
    with pytest.raises(SettingsError, match="no decoder"):
        refine.refine(quick, cartoons, encoder, {}, tmp_path)
    wider = build_decoder(replace(small_sizes, code_size=30), seed=0)
    with pytest.raises(SettingsError, match="decoder of mara"):
        refine.refine(quick, cartoons, encoder, {"mara": wider}, tmp_path)
    with pytest.raises(SettingsError, match="vectors of odin"):
        refine.refine(quick, cartoons, encoder, decoders, tmp_path, people={"odin": torch.ones(3)})
    with pytest.raises(DataError, match="nobody"):
        refine.refine(quick, cartoons, encoder, {"nobody": decoders["mara"]}, tmp_path)
    with pytest.raises(SettingsError, match="shards"):
        replace(quick, batch=5)
