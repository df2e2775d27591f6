"""Enrollment: a cartoon person nobody trained on, learned from few frames on a small universal run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from engines import checkpoint, enroll_learner
from engines import enroll as enroll_module
from engines.adapt import Adaptation, best_start, mode_for
from engines.augment import AugmentConfig, augment, to_pictures, to_tensor
from engines.checks import Check, checks_in_vain
from engines.enroll import EnrollConfig, enroll, plan_for
from engines.enroll_learner import held_out_rows, usable_frames
from engines.errors import DataError, SettingsError, TrainingError
from engines.faceset import FaceSet, FaceSetInfo, read_faceset
from engines.faceset_writer import FaceSetWriter
from engines.film import FilmDecoder
from engines.losses import LossWeights, region_weights, swap_losses
from engines.metrics import psnr_masked_db
from engines.network import build_encoder
from engines.pairs import Batch
from tests.engines.synthetic import faces
from tests.engines.test_train import Clock, Killed

PEOPLE = (21, 22, 23, 24, 25, 26)
"""Seeds of the cartoon people of the universal run; the newcomer is none of them."""
NEWCOMER = 31


def write_person(folder: Path, seed: int, states: list[int]) -> FaceSet:
    info = FaceSetInfo(origin="cartoons 1", consent="invented:31", seeds={"people": seed}, size=40)
    FaceSetWriter(folder, info).add("nia", "persona", "train", states, *faces(seed, states, 40))
    return read_faceset(folder)


@pytest.fixture(scope="module")
def universal(small_sizes, tmp_path_factory):
    """Encoder, trunk and people of a small universal run: any of six people to any other, in the same state."""
    torch.set_num_threads(1)
    crops, masks, landmarks, _ = (
        np.stack(a) for a in zip(*(faces(p, list(range(96)), 40) for p in PEOPLE), strict=True)
    )
    with_masks = np.concatenate([crops, masks[..., None]], axis=4)
    encoder, trunk = build_encoder(small_sizes, seed=0), FilmDecoder(small_sizes, seed=1)
    people = nn.Parameter(torch.zeros(len(PEOPLE), trunk.film_size))
    optimizer = torch.optim.AdamW([
        {"params": [*encoder.parameters(), *trunk.parameters()], "lr": 4e-3}, {"params": [people], "lr": 1e-2},
    ])  # fmt: skip
    for step in range(260):
        rng = np.random.default_rng((7, step))
        rows, wearers = rng.integers(96, size=6), rng.integers(len(PEOPLE), size=6)
        batch = Batch(rows, [], crops[wearers, rows], with_masks[:, rows], landmarks[:, rows])
        drawn = augment(batch, AugmentConfig(), rng, margin=1.25, input_size=32, output_size=32)
        code = encoder(drawn.inputs).repeat(len(PEOPLE), 1)
        face, mask = trunk(code, people.repeat_interleave(6, dim=0))
        truths, covers, marks = (t.flatten(0, 1) for t in (drawn.truths, drawn.masks, drawn.landmarks))
        loss = swap_losses(face, mask, truths, covers, region_weights(marks, 32), LossWeights())["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.eval(), trunk.eval(), people.detach()


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return write_person(tmp_path_factory.mktemp("few"), NEWCOMER, list(range(500, 516)))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_person(tmp_path_factory.mktemp("many"), NEWCOMER, list(range(500, 660)))


@pytest.fixture
def quick():
    return EnrollConfig(
        mode="film", steps=6, batch=4, check_every=2, threads=1, warmup_steps=2, report_seconds=0, stand_in_share=0.0
    )


def held_out_psnr(universal, decoder):
    """Of states that no enrollment saw, with another person as wearer."""
    states = list(range(900, 940))
    wearers = faces(PEOPLE[0], states, 40)[0][:, 4:36, 4:36]
    truth, masks = (a[:, 4:36, 4:36] for a in faces(NEWCOMER, states, 40)[:2])
    with torch.no_grad():
        result = to_pictures(decoder(universal[0](to_tensor(wearers)))[0])
    return psnr_masked_db(result, truth, masks / 255)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("mode", "frames", "gain_db"), [("film", "few", 1), ("lora", "many", 1.5), ("full", "many", 1.5)]
)
def test_each_mode_learns_a_newcomer(universal, few, many, tmp_path, mode, frames, gain_db):
    seen = []
    # The newcomer is of a colour that the six people are not: further away than anybody real, so the vector hurries.
    rate = 5e-2 if mode == "film" else None
    cfg = EnrollConfig(mode=mode, steps=80, check_every=10, threads=1, report_seconds=0, learning_rate=rate)
    before = {k: v.clone() for k, v in universal[0].state_dict().items()}
    result = enroll(cfg, few if frames == "few" else many, "nia", *universal, tmp_path, seen.append)
    assert equal(before, universal[0].state_dict())
    decoder, meta = checkpoint.load_decoder(result.decoder)
    assert meta["mode"] == result.mode == mode
    # Unlike anybody that the trunk knows, in states that no enrollment saw, on another wearer.
    best = max(held_out_psnr(universal, universal[1].fold(person)) for person in universal[2])
    assert held_out_psnr(universal, decoder) > best + gain_db
    first = result.history[0]
    assert first.step == 0
    assert result.score.psnr_masked_db > first.psnr_masked_db + gain_db
    assert min(c.loss for c in result.history) == next(c.loss for c in result.history if c.step == result.best_step)
    assert [p.step for p in seen] == list(range(1, result.step + 1))
    assert seen[0].eta_s > seen[-1].eta_s
    assert [p.step for p in seen if p.scores] == [c.step for c in result.history[1:]]


def test_a_run_leaves_weights_history_report_and_picture(universal, few, tmp_path, quick):
    result = enroll(quick, few, "nia", *universal, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["mode"], report["frames"], report["held_out"], report["unusable_frames"]) == ("film", 16, 2, 0)
    assert [c["step"] for c in report["history"]] == [0, 2, 4, 6]
    assert report["seconds"] > 0
    assert json.loads((tmp_path / "config.json").read_text())["plan"]["mode"] == "film"
    assert cv2.imread(str(result.sheet)).shape == (2 * 32, 3 * 32, 3)
    meta = json.loads((tmp_path / "decoder.json").read_text())
    assert meta["encoder_sha256"] == json.loads((tmp_path / "encoder.json").read_text())["sha256"]
    assert meta["consent"] == "invented:31"
    assert equal(checkpoint.load_encoder(result.encoder)[0].state_dict(), universal[0].state_dict())


def test_the_mode_follows_the_number_of_frames():
    assert [mode_for(n) for n in (4, 19, 20, 500, 501)] == ["film", "film", "lora", "lora", "full"]
    assert plan_for(EnrollConfig(), 300).mode == "lora"
    assert plan_for(EnrollConfig(mode="lora", steps=7, learning_rate=0.5), 300).steps == 7
    assert plan_for(EnrollConfig(), 8).steps < plan_for(EnrollConfig(), 300).steps


@pytest.mark.parametrize("mode", ["film", "lora", "full"])
def test_what_learns_folds_to_the_same_pictures(universal, mode, small_sizes):
    _, trunk, people = universal
    person = Adaptation(mode, trunk, people[0], rank=2, seed=0)
    code = torch.randn(3, small_sizes.code_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        start = person.fold(trunk)(code)[0]
        assert torch.allclose(start, trunk(code, people[:1].expand(3, -1))[0], atol=1e-5)
        for number in person.parameters():
            number.add_(0.02 * torch.randn(number.shape, generator=torch.Generator().manual_seed(2)))
        moved = person.fold(trunk)(code)[0]
        assert (moved - start).abs().max() > 1e-2
        live, _ = torch.func.functional_call(trunk.trunk, person.weights(trunk), (code,))
        assert torch.equal(live, moved)
        if mode == "film":
            assert torch.allclose(moved, trunk(code, person.vector.expand(3, -1))[0], atol=1e-5)


def test_gradients_come_back_through_the_fold(universal, few, quick):
    """The two-step gradient (decoder, then what learns) is the gradient of the loss, in each mode."""
    settings = enroll_learner.LearnConfig(4, 0, 1, LossWeights(), AugmentConfig(), 0.0, 8, "cpu")
    learner = enroll_learner.Learner(settings, usable_frames(few, "nia", 0.125), *universal[:2])
    for mode in ("film", "lora", "full"):
        person = Adaptation(mode, learner.trunk, universal[2][0], rank=2, seed=0)
        with ThreadPoolExecutor(1) as pool:
            learner.learn(person, pool, step=3)
        found = [p.grad.clone() for p in person.parameters()]
        faces_ = learner._draw(3, 0)
        code = universal[0](faces_.inputs).detach()
        face, mask = torch.func.functional_call(learner.trunk.trunk, person.weights(learner.trunk), (code,))
        wanted = torch.autograd.grad(learner._terms(face, mask, faces_)["total"], list(person.parameters()))
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()) + 1e-7), mode


def test_it_starts_from_the_person_most_alike(universal):
    _, trunk, people = universal
    alike = 4

    @torch.no_grad()
    def loss_of(decoder):
        return float((decoder.to_grid.bias - trunk.fold(people[alike]).to_grid.bias).abs().sum())

    assert best_start(trunk, people, loss_of, range(6))[1] == alike
    assert best_start(trunk, people, loss_of, range(3))[1] != alike
    mean, row = best_start(trunk, people, loss_of, ())
    assert row is None
    assert torch.allclose(mean, people.mean(0))
    assert not best_start(trunk, None, loss_of, ())[0].any()


def test_it_stops_when_the_held_out_frames_gain_nothing(universal, few, tmp_path, quick):
    """A rate so small that nothing changes: the first check and ``patience`` more, and the start is kept."""
    cfg = replace(quick, steps=500, learning_rate=1e-9, patience=3)
    result = enroll(cfg, few, "nia", *universal, tmp_path)
    assert (result.stopped, result.step) == ("early", 6)
    again = enroll(cfg, few, "nia", *universal, tmp_path)
    assert (again.stopped, again.step) == ("early", 6)
    assert enroll(replace(cfg, patience=4), few, "nia", *universal, tmp_path).step == 8


def test_checks_in_vain_are_counted_from_the_last_gain():
    def history(*losses):
        return [Check(i, 0.0, loss, 0, 0, 0, 0) for i, loss in enumerate(losses)]

    assert checks_in_vain([]) == 0
    assert checks_in_vain(history(3, 2, 1)) == 0
    assert checks_in_vain(history(3, 1, 2, 1.5)) == 2
    assert checks_in_vain(history(1, 0.9999, 0.9998)) == 2  # too little to count


def test_the_best_weights_are_kept_not_the_last(universal, few, tmp_path, quick):
    """A rate that ruins everything: what comes out is no worse than what went in."""
    cfg = replace(quick, steps=10, learning_rate=1.0, warmup_steps=0, ema=0.0)
    result = enroll(cfg, few, "nia", *universal, tmp_path)
    assert result.history[-1].loss > 2 * result.history[0].loss
    assert result.best_step < 10
    decoder, meta = checkpoint.load_decoder(result.decoder)
    assert meta["check"]["loss"] == min(c.loss for c in result.history)
    if result.best_step == 0:
        start = universal[1].fold(universal[2][result.start] if result.start is not None else universal[2].mean(0))
        assert equal(decoder.state_dict(), start.state_dict())


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_killed_run_continues_to_the_same_weights(universal, few, tmp_path, quick, mode):
    cfg = replace(quick, mode=mode, steps=9, check_every=3)
    whole = enroll(cfg, few, "nia", *universal, tmp_path / "whole", clock=Clock())

    def kill(progress):
        if progress.step == 5:
            raise Killed

    # With a clock of one second per reading, each step is followed by a checkpoint; the fifth dies after its own.
    often = replace(cfg, checkpoint_minutes=0.0)
    with pytest.raises(Killed):
        enroll(often, few, "nia", *universal, tmp_path / "killed", kill, clock=Clock())
    assert not (tmp_path / "killed" / "report.json").exists()
    steps = []
    again = enroll(often, few, "nia", *universal, tmp_path / "killed", lambda p: steps.append(p.step), clock=Clock())
    assert steps == [6, 7, 8, 9]
    assert [(c.step, c.loss) for c in again.history] == [(c.step, c.loss) for c in whole.history]
    found, wanted = (checkpoint.load_decoder(r.decoder)[0].state_dict() for r in (again, whole))
    assert equal(found, wanted)
    states = [next((tmp_path / name / "state").glob("*.safetensors")).read_bytes() for name in ("whole", "killed")]
    assert states[0] == states[1]


def test_a_kill_between_two_files_of_a_checkpoint_costs_nothing(universal, few, tmp_path, quick, monkeypatch):
    """History and decoder are newer than the state then; what is learned once more ends the same."""
    cfg = replace(quick, steps=8)
    whole = enroll(cfg, few, "nia", *universal, tmp_path / "whole", clock=Clock())
    honest, saved = enroll_module.save_run, []

    def die(run, *args):
        if run.step == 6:
            raise Killed
        saved.append(run.step)
        honest(run, *args)

    often = replace(cfg, checkpoint_minutes=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(enroll_module, "save_run", die)
        with pytest.raises(Killed):
            enroll(often, few, "nia", *universal, tmp_path / "torn", clock=Clock())
    assert saved[-1] == 5
    again = enroll(often, few, "nia", *universal, tmp_path / "torn", clock=Clock())
    assert [(c.step, c.loss) for c in again.history] == [(c.step, c.loss) for c in whole.history]
    assert equal(*(checkpoint.load_decoder(r.decoder)[0].state_dict() for r in (again, whole)))


def test_ctrl_c_saves_and_ends(universal, few, tmp_path, quick):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    result = enroll(quick, few, "nia", *universal, tmp_path, interrupt)
    assert (result.stopped, result.step) == ("interrupted", 3)
    assert enroll(quick, few, "nia", *universal, tmp_path).step == 6


def test_another_run_is_not_continued(universal, few, tmp_path, quick):
    enroll(quick, few, "nia", *universal, tmp_path)
    encoder, trunk, people = universal
    for cfg, vectors in ((replace(quick, seed=1), people), (replace(quick, mode="full"), people), (quick, people + 1)):
        with pytest.raises(TrainingError, match="another run"):
            enroll(cfg, few, "nia", encoder, trunk, vectors, tmp_path)


@pytest.mark.parametrize("file", ["history.json", "decoder.safetensors", "decoder.json", "state"])
def test_damaged_files_are_named(universal, few, tmp_path, quick, file):
    enroll(quick, few, "nia", *universal, tmp_path)
    path = next((tmp_path / "state").glob("*.safetensors")) if file == "state" else tmp_path / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError):
        enroll(quick, few, "nia", *universal, tmp_path)


def test_divergence_keeps_the_last_good_weights(universal, few, tmp_path, quick, monkeypatch):
    honest, calls = enroll_learner.augment, []

    def poison(batch, strengths, *args, **kwargs):
        drawn = honest(batch, strengths, *args, **kwargs)
        if strengths is not enroll_learner.NEUTRAL:
            calls.append(1)
            if len(calls) > 3 * quick.shards:
                drawn.inputs[0, 0, 0, 0] = torch.nan
        return drawn

    monkeypatch.setattr(enroll_learner, "augment", poison)
    with pytest.raises(TrainingError, match="step 3") as caught:
        enroll(replace(quick, checkpoint_minutes=0.0), few, "nia", *universal, tmp_path, clock=Clock())
    assert "learning_rate" in caught.value.hint
    decoder, _ = checkpoint.load_decoder(tmp_path / "decoder")
    assert all(bool(torch.isfinite(p).all()) for p in decoder.parameters())


def test_too_few_frames_are_named(universal, few, tmp_path, quick):
    stored = few.faces["nia"]
    three = replace(stored, **{
        name: getattr(stored, name)[:3] for name in ("states", "crops", "masks", "landmarks", "pose")
    })  # fmt: skip
    with pytest.raises(DataError, match="3 usable frames, enrollment needs at least 4"):
        enroll(quick, replace(few, faces={"nia": three}), "nia", *universal, tmp_path)
    empty = stored.masks.copy()
    empty[2:] = 0
    with pytest.raises(DataError, match="2 usable frames of 16"):
        enroll(quick, replace(few, faces={"nia": replace(stored, masks=empty)}), "nia", *universal, tmp_path)
    with pytest.raises(DataError, match="nobody") as caught:
        enroll(quick, few, "nobody", *universal, tmp_path)
    assert "nia" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_frames_without_a_face_are_left_out(few):
    stored = few.faces["nia"]
    masks, landmarks = stored.masks.copy(), stored.landmarks.copy()
    masks[3] = 0
    landmarks[5, 0] = np.nan
    found = usable_frames(replace(few, faces={"nia": replace(stored, masks=masks, landmarks=landmarks)}), "nia", 0.125)
    assert (found.count, found.unusable) == (14, 2)
    assert not {503, 505} & set(found.faces.states.tolist())
    assert sorted([*found.training, *found.held_out]) == list(range(14))


@pytest.mark.parametrize("count", [4, 5, 8, 20, 63, 64, 150, 300, 1001])
def test_held_out_frames_are_blocks_at_the_ends_of_sections(count):
    rows = held_out_rows(count, 0.125)
    assert rows[-1] == count - 1  # the last ones
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert 0.1 <= len(rows) / count <= 0.15 or len(rows) == 1
    gaps = sum(b - a > 1 for a, b in pairwise(rows.tolist()))
    assert gaps + 1 <= max(1, len(rows) / 5)  # blocks, not single frames


def test_mesh_points_reach_an_encoder_that_takes_them(few, tmp_path, quick, small_sizes):
    with_points = replace(small_sizes, mesh_points=len(enroll_learner.MESH_SUBSET))
    encoder, trunk = build_encoder(with_points, seed=0).eval(), FilmDecoder(with_points, seed=1)
    stored = few.faces["nia"]
    mesh = np.random.default_rng(0).uniform(5, 35, (16, 468, 2)).astype(np.float32)
    meshed = replace(few, faces={"nia": replace(stored, extras={"mesh": mesh})})
    settings = enroll_learner.LearnConfig(4, 0, 1, LossWeights(), AugmentConfig(), 0.5, 8, "cpu")
    codes = []
    for faceset in (meshed, few):
        learner = enroll_learner.Learner(settings, usable_frames(faceset, "nia", 0.125), encoder, trunk)
        codes.append(learner._held_out_faces()[1])
        assert codes[-1].isfinite().all()
        drawn = learner._draw(0, 0)
        assert (drawn.points is None) == (faceset is few)
    assert not torch.equal(*codes)
    assert enroll(quick, meshed, "nia", encoder, trunk, None, tmp_path).step == 6


def test_networks_that_do_not_fit_are_refused(universal, few, tmp_path, quick, small_sizes):
    encoder, trunk, people = universal
    wide = replace(small_sizes, code_size=30)
    with pytest.raises(TrainingError, match="sizes differ"):
        enroll(quick, few, "nia", build_encoder(wide, seed=0), trunk, people, tmp_path)
    for wrong in (people[:, :-1], people[0], people * torch.nan, people[:0]):
        with pytest.raises(SettingsError):
            enroll(quick, few, "nia", encoder, trunk, wrong, tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="GPU"):
            enroll(replace(quick, device="cuda"), few, "nia", *universal, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"held_out": 0.0},
        {"held_out": 0.9},
        {"check_every": 0},
        {"patience": 0},
        {"batch": 1},
        {"steps": 0},
        {"stand_in_share": 1.5},
    ],
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(SettingsError):
        EnrollConfig(**wrong)
