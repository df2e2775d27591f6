"""Polishing on cartoon people: it gains, never loses, continues after a kill, and refuses what it should."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from engines import checkpoint
from engines import polish as module
from engines.augment import NEUTRAL
from engines.errors import DataError, SettingsError, TrainingError
from engines.mesh_subset import MESH_SUBSET
from engines.polish import PolishConfig, codes, decoded, polish, scored
from engines.polish_data import PersonaPairs
from engines.run_folder import load_universal
from engines.universal import UniversalConfig, train_universal
from engines.universal_data import PointsNoise
from engines.universal_networks import persona_decoder
from tests.engines.synthetic import write_people

NAME = "person-3"
SPLIT = {"seed": 3, "held_out": 0.25}


class Killed(BaseException):
    """Like SIGKILL: nothing in the loop may catch it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), states=64)


@pytest.fixture(scope="module")
def run(folder, small_sizes, tmp_path_factory):
    cfg = UniversalConfig(
        network=replace(small_sizes, mesh_points=len(MESH_SUBSET)), steps=80, batch=16, learning_rate=4e-3,
        warmup_steps=10, ema=0.95, validation_faces=8, threads=1, **SPLIT,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    result = train_universal(cfg, folder, out)
    trained = load_universal(out)
    # Whoever was held out has no vector, so the tests' persona must be another.
    assert result.step == 80
    assert NAME in trained.people.names
    return trained


@pytest.fixture
def quick():
    return PolishConfig(
        steps=6, batch=4, warmup_steps=1, ema=0.5, check_every=3, validation_faces=8, threads=1, **SPLIT
    )  # fmt: skip


@pytest.fixture(scope="module")
def polished(run, folder, tmp_path_factory):
    cfg = PolishConfig(
        steps=60, batch=16, learning_rate=2e-3, warmup_steps=5, ema=0.9, check_every=15, validation_faces=48, threads=1,
        report_seconds=0, **SPLIT,
    )  # fmt: skip
    seen = []
    return polish(cfg, folder, NAME, run, tmp_path_factory.mktemp("polish"), seen.append), seen


def test_it_gains_on_wearers_and_states_it_never_saw(polished, run, folder):
    result, seen = polished
    assert (result.stopped, result.step) == ("finished", 60)
    assert result.best_step > 0
    assert result.score.psnr_masked_db > result.start.psnr_masked_db + 0.5
    assert result.score.mask_iou >= result.start.mask_iou
    assert [c.step for c in result.history] == [0, 15, 30, 45, 60]
    assert seen[-1].fraction == 1
    # What lies in the folder is what was scored, and the start is the plain fold of the vector.
    decoder, meta = checkpoint.load_decoder(result.decoder)
    assert (meta["persona"], meta["step"]) == (NAME, result.best_step)
    encoder, _ = checkpoint.load_encoder(result.encoder)
    unseen = PersonaPairs(folder, "unseen", encoder.sizes, NAME, **SPLIT).every_own(48)
    code = codes(encoder, unseen)
    assert scored(*decoded(decoder, code), unseen).psnr_masked_db == pytest.approx(
        result.score.psnr_masked_db, abs=0.01
    )
    fold = persona_decoder(run.trunk, run.people.vectors[run.people.names.index(NAME)])
    assert scored(*decoded(fold, code), unseen).psnr_masked_db == pytest.approx(result.start.psnr_masked_db, abs=0.01)
    assert result.sheet.exists()


def test_the_encoder_stays_as_it_is(polished, run):
    encoder, _ = checkpoint.load_encoder(polished[0].encoder)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), run.encoder.parameters(), strict=True))


def test_it_never_returns_anything_worse_than_the_fold(quick, run, folder, tmp_path):
    """A rate that wrecks the decoder leaves the fold."""
    wrecked = polish(replace(quick, learning_rate=0.3), folder, NAME, run, tmp_path)
    assert wrecked.history[-1].psnr_masked_db < wrecked.start.psnr_masked_db - 1
    assert wrecked.best_step == 0
    assert wrecked.score == wrecked.start
    decoder, _ = checkpoint.load_decoder(wrecked.decoder)
    fold = persona_decoder(run.trunk, run.people.vectors[run.people.names.index(NAME)])
    assert all(torch.equal(a, b) for a, b in zip(decoder.parameters(), fold.parameters(), strict=True))


def test_a_lower_loss_alone_is_not_better(quick, run, folder, tmp_path):
    one = module._Polish(quick, folder, NAME, run, tmp_path)
    fold = one.check()
    assert one._better(replace(fold, loss=fold.loss * 0.9), fold)
    assert not one._better(replace(fold, loss=fold.loss * 0.9, psnr_masked_db=fold.psnr_masked_db - 0.01), fold)
    assert not one._better(replace(fold, loss=fold.loss * 0.9, mask_iou=fold.mask_iou - 0.001), fold)
    assert not one._better(replace(fold, psnr_masked_db=fold.psnr_masked_db + 1), fold)


def test_a_killed_run_continues_as_if_nothing_had_happened(quick, run, folder, tmp_path):
    def kill(progress):
        if progress.step == 4:
            raise Killed

    often = replace(quick, checkpoint_minutes=0, report_seconds=0)
    with pytest.raises(Killed):
        polish(often, folder, NAME, run, tmp_path / "a", kill)
    continued = polish(often, folder, NAME, run, tmp_path / "a")
    whole = polish(often, folder, NAME, run, tmp_path / "b")
    assert (continued.step, continued.best_step) == (6, whole.best_step)
    a, b = (checkpoint.load(tmp_path / x / "decoder", "decoder").meta["sha256"] for x in "ab")
    assert a == b
    assert [c.loss for c in continued.history] == [c.loss for c in whole.history]
    assert json.loads((tmp_path / "a" / "report.json").read_text())["score"]["psnr_masked_db"] > 0


def test_ctrl_c_saves(quick, run, folder, tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    result = polish(replace(quick, report_seconds=0), folder, NAME, run, tmp_path, interrupt)
    assert (result.stopped, result.step) == ("interrupted", 1)
    assert polish(quick, folder, NAME, run, tmp_path).step == 6


def test_it_refuses_what_is_none_of_its_own(quick, run, folder, tmp_path):
    polish(replace(quick, steps=1), folder, NAME, run, tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        polish(replace(quick, batch=8), folder, NAME, run, tmp_path)
    other = next(name for name in run.people.names if name != NAME)
    with pytest.raises(TrainingError, match="another run"):
        polish(quick, folder, other, run, tmp_path)
    with pytest.raises(DataError, match="nobody called"):
        polish(quick, folder, "zoe", run, tmp_path / "new")
    with pytest.raises(SettingsError, match="equal parts"):
        replace(quick, batch=5)
    with pytest.raises(SettingsError, match="mirror"):
        replace(quick, augment=replace(NEUTRAL, flip_chance=0.5))
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="GPU"):
            polish(replace(quick, device="cuda"), folder, NAME, run, tmp_path / "gpu")


def test_divergence_keeps_the_last_checkpoint(quick, run, folder, tmp_path):
    polish(replace(quick, steps=3), folder, NAME, run, tmp_path)
    before = (tmp_path / "decoder.safetensors").read_bytes()
    # The rate is not operational, so the state is made to diverge from the inside.
    one = module._Polish(replace(quick, steps=9), folder, NAME, run, tmp_path)
    one.resume()
    with torch.no_grad():
        one.learning[0].fill_(math.nan)
    with pytest.raises(TrainingError, match="no longer a number"):
        one.train(None, lambda: 0.0)
    assert (tmp_path / "decoder.safetensors").read_bytes() == before


def test_pairs_are_of_one_persona_and_depend_on_seed_step_and_part(run, folder):
    sizes = run.encoder.sizes
    pairs = PersonaPairs(folder, "train", sizes, NAME, **SPLIT)
    quiet = PointsNoise(jitter=0, shift=0, strong_chance=0, drop_points=0, drop_picture=0)
    drawn = pairs.draw_own(0, 0, 60, NEUTRAL, quiet, self_fraction=0.5)
    assert set(drawn.personas.tolist()) == {pairs.persona}
    own = drawn.wearers == pairs.persona
    assert 0.3 < float(own.float().mean()) < 0.7
    assert (drawn.inputs - drawn.truths)[own].abs().max() < 0.02  # one person in one state, one picture
    assert (drawn.inputs - drawn.truths)[~own].abs().amax(dim=(1, 2, 3)).min() > 0.1
    again = pairs.draw_own(0, 0, 60, NEUTRAL, quiet, self_fraction=0.5)
    assert torch.equal(drawn.inputs, again.inputs)
    assert not torch.equal(drawn.inputs, pairs.draw_own(0, 1, 60, NEUTRAL, quiet, self_fraction=0.5).inputs)
    unseen = PersonaPairs(folder, "unseen", sizes, NAME, **SPLIT).every_own(10_000)
    assert not set(unseen.wearers.tolist()) & set(drawn.wearers.tolist())
    assert (unseen.present == 1).all()
    held_out = next(name for name in (f"person-{i}" for i in range(8)) if name not in pairs.names)
    with pytest.raises(DataError, match=held_out):
        PersonaPairs(folder, "train", sizes, held_out, **SPLIT)
