from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from engines import checkpoint, train
from engines.augment import NEUTRAL, augment, to_pictures
from engines.errors import DataError, TrainingError
from engines.metrics import psnr_masked_db
from engines.pairs import PairedSet
from engines.train import TrainConfig, train_decoder, train_first


class Clock:
    """Each reading is one second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def quick(small_sizes) -> TrainConfig:
    return TrainConfig(
        network=small_sizes, steps=6, batch=4, warmup_steps=2, held_out_every=4, validation_faces=8, threads=1
    )


def weights(path):
    return checkpoint.load_encoder(path)[0].state_dict()


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(small_sizes, cartoons, tmp_path_factory):
    cfg = TrainConfig(
        network=small_sizes, steps=350, batch=16, learning_rate=4e-3, warmup_steps=20, ema=0.98, held_out_every=4,
        validation_faces=48, threads=1, report_seconds=0,
    )  # fmt: skip
    seen = []
    return train_first(cfg, cartoons, tmp_path_factory.mktemp("run"), seen.append), seen, cfg


def test_training_reduces_the_loss(trained):
    result, seen, cfg = trained
    assert result.stopped == "finished"
    assert result.step == cfg.steps
    assert result.images_per_s > 0
    assert result.loss["total"] < 0.5 * seen[0].loss["total"]
    assert [p.step for p in seen] == list(range(1, cfg.steps + 1))
    assert seen[-1].fraction == 1
    assert seen[-1].eta_s == 0
    assert seen[0].eta_s > seen[300].eta_s
    assert set(seen[-1].loss) == {
        "charbonnier", "regions", "dssim", "laplacian", "mask_bce", "mask_dice", "code", "total",
    }  # fmt: skip


def test_the_swap_of_an_unseen_wearer_shows_the_persona_in_the_wearers_state(trained, cartoons):
    result, _, cfg = trained
    pairs = PairedSet(cartoons, ["mara", "odin"], "val", held_out_every=cfg.held_out_every, state_block=cfg.state_block)
    states, wearers = zip(*pairs.every(48), strict=True)
    assert set(wearers) == {"eve"}
    faces = augment(
        pairs.gather(states, wearers), NEUTRAL, np.random.default_rng(0), margin=1.25, input_size=32, output_size=32
    )
    encoder, _ = checkpoint.load_encoder(result.encoder)
    swaps = {}
    for k, name in enumerate(("mara", "odin")):
        decoder, _ = checkpoint.load_decoder(result.decoders[name])
        with torch.no_grad():
            swaps[name] = to_pictures(decoder(encoder(faces.inputs))[0])
        truth, masks = to_pictures(faces.truths[k]), faces.masks[k, :, 0].numpy()
        found = psnr_masked_db(swaps[name], truth, masks)
        other_state = psnr_masked_db(np.roll(swaps[name], 1, axis=0), truth, masks)
        wearer = psnr_masked_db(to_pictures(faces.inputs), truth, masks)
        assert found > max(17, other_state + 2, wearer + 2), name
        assert result.scores[name].psnr_masked_db == pytest.approx(found, abs=0.01)
        assert result.scores[name].mask_iou > 0.8


def test_a_run_leaves_weights_report_and_picture(trained):
    result, _, cfg = trained
    folder = result.encoder.parent
    assert json.loads((folder / "config.json").read_text())["network"]["tier"] == "test"
    assert json.loads((folder / "report.json").read_text())["step"] == cfg.steps
    assert cv2.imread(str(result.sheet)).shape == (8 * 32, 5 * 32, 3)
    encoder = json.loads((folder / "encoder.json").read_text())
    assert json.loads((folder / "decoder-odin.json").read_text())["encoder_sha256"] == encoder["sha256"]
    assert len(list((folder / "state").glob("*.safetensors"))) == 1


def test_a_new_persona_learns_on_a_frozen_encoder(trained, cartoons, tmp_path):
    result, _, cfg = trained
    encoder, _ = checkpoint.load_encoder(result.encoder)
    start, _ = checkpoint.load_decoder(result.decoders["mara"])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    short = replace(cfg, steps=60)
    found = train_decoder(short, cartoons, encoder, tmp_path, personas=["odin"], start_from=start)
    assert equal(before, weights(found.encoder))
    assert equal(before, encoder.state_dict())
    assert not torch.equal(start.head.weight, checkpoint.load_decoder(found.decoders["odin"])[0].head.weight)
    assert found.scores["odin"].psnr_masked_db > 16
    with pytest.raises(TrainingError, match="test"):
        train_decoder(TrainConfig(), cartoons, encoder, tmp_path / "other")


class Killed(BaseException):
    """Like SIGKILL: nothing in the loop may catch it."""


def test_a_killed_run_continues_to_the_same_weights(quick, cartoons, tmp_path):
    whole = train_first(quick, cartoons, tmp_path / "whole", clock=Clock())

    def kill(progress):
        if progress.step == 4:
            raise Killed

    # With a clock of one second per reading, each step is followed by a checkpoint; the fourth dies after its own.
    often = replace(quick, checkpoint_minutes=0.0, report_seconds=0)
    with pytest.raises(Killed):
        train_first(often, cartoons, tmp_path / "killed", kill, clock=Clock())
    assert not (tmp_path / "killed" / "report.json").exists()
    steps = []
    again = train_first(often, cartoons, tmp_path / "killed", lambda p: steps.append(p.step), clock=Clock())
    assert steps == [5, 6]
    assert again.step == 6
    assert equal(weights(whole.encoder), weights(again.encoder))
    assert again.seconds > 4


def test_a_finished_run_is_not_trained_again(quick, cartoons, tmp_path):
    first = train_first(quick, cartoons, tmp_path)
    seen = []
    again = train_first(replace(quick, report_seconds=0), cartoons, tmp_path, seen.append)
    assert again.step == first.step
    assert seen == []
    longer = train_first(replace(quick, steps=8), cartoons, tmp_path)
    assert longer.step == 8


def test_another_run_is_not_continued(quick, cartoons, tmp_path):
    train_first(quick, cartoons, tmp_path)
    for other in (replace(quick, seed=1), replace(quick, batch=2)):
        with pytest.raises(TrainingError, match="another run"):
            train_first(other, cartoons, tmp_path)
    with pytest.raises(TrainingError, match="another run"):
        train_first(quick, cartoons, tmp_path, personas=["odin"])


def test_a_damaged_state_is_named(quick, cartoons, tmp_path):
    train_first(quick, cartoons, tmp_path)
    state = next((tmp_path / "state").glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(DataError, match="sha256"):
        train_first(quick, cartoons, tmp_path)


def test_ctrl_c_saves_and_ends(quick, cartoons, tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    often = replace(quick, report_seconds=0)
    result = train_first(often, cartoons, tmp_path, interrupt)
    assert (result.stopped, result.step) == ("interrupted", 3)
    assert train_first(often, cartoons, tmp_path).step == 6


def test_the_schedule_may_be_a_time(quick, cartoons, tmp_path):
    rates = []
    cfg = replace(quick, steps=1000, max_minutes=0.2, warmup_steps=0, report_seconds=0)
    result = train_first(cfg, cartoons, tmp_path, lambda p: rates.append(p.learning_rate), clock=Clock())
    assert result.stopped == "finished"
    assert 6 <= result.step <= 13
    assert result.seconds >= 12
    assert rates[0] == pytest.approx(cfg.learning_rate)
    assert rates[-1] < 0.1 * rates[0]
    assert rates == sorted(rates, reverse=True)


def test_divergence_stops_and_keeps_the_last_good_weights(quick, cartoons, tmp_path, monkeypatch):
    honest = train.augment
    calls = []

    def poison(*args, **kwargs):
        batch = honest(*args, **kwargs)
        calls.append(1)
        if len(calls) > 1 + 3 * quick.shards:  # the validation faces, then three good steps
            batch.inputs[0, 0, 0, 0] = torch.nan
        return batch

    monkeypatch.setattr(train, "augment", poison)
    cfg = replace(quick, checkpoint_minutes=0.0)
    with pytest.raises(TrainingError, match="step 3") as caught:
        train_first(cfg, cartoons, tmp_path, clock=Clock())
    assert "learning_rate" in caught.value.hint
    kept, meta = checkpoint.load_encoder(tmp_path / "encoder")
    assert meta["step"] == 3
    assert all(bool(torch.isfinite(p).all()) for p in kept.parameters())


def test_a_set_without_personas_is_named(quick, cartoons, tmp_path):
    with pytest.raises(TrainingError, match="no persona"):
        train_first(quick, replace(cartoons, faces={"ann": cartoons.faces["ann"]}), tmp_path)
