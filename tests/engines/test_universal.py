"""The universal stage on cartoon people: it learns, continues, refuses and stops as it says."""

from __future__ import annotations

import json
import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import cv2
import pytest
import torch

from engines import checkpoint, universal
from engines.distributed import joined
from engines.errors import DataError, SettingsError, TrainingError
from engines.faceset import read_index
from engines.mesh_subset import MESH_SUBSET
from engines.network import with_state
from engines.universal import (
    UniversalConfig,
    load_people,
    load_trunk,
    on_top,
    persona_decoder,
    train_universal,
)  # fmt: skip
from engines.universal_data import UniversalPairs, state_size
from engines.universal_losses import UniversalWeights
from engines.universal_networks import UniversalNetworks
from tests.engines.synthetic import write_people


class Clock:
    """Each reading is one second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Killed(BaseException):
    """Like SIGKILL: nothing in the loop may catch it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def mesh_sizes(small_sizes):
    return replace(small_sizes, mesh_points=len(MESH_SUBSET))


@pytest.fixture
def quick(mesh_sizes):
    return UniversalConfig(
        network=mesh_sizes, steps=6, batch=4, warmup_steps=2, held_out=0.25, validation_faces=8, threads=1,
        cycle_every=2, consistency_every=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(mesh_sizes, folder, tmp_path_factory):
    cfg = UniversalConfig(
        network=mesh_sizes, steps=200, batch=16, learning_rate=4e-3, warmup_steps=20, ema=0.98, held_out=0.25,
        validation_faces=48, threads=1, report_seconds=0,
    )  # fmt: skip
    seen = []
    return train_universal(cfg, folder, tmp_path_factory.mktemp("run"), seen.append), seen, cfg


def weights(result):
    """All that a run writes, by file and name."""
    kinds = (("encoder", result.encoder), ("trunk", result.trunk), ("people", result.people))
    return {f"{kind}.{k}": t for kind, stem in kinds for k, t in checkpoint.load(stem, kind).tensors.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def untrained_scores(cfg, folder, path):
    return train_universal(replace(cfg, steps=1, report_seconds=9), folder, path).scores


def test_it_learns_the_swap_of_wearers_and_states_it_never_saw(trained, folder, tmp_path):
    result, seen, cfg = trained
    assert (result.stopped, result.step) == ("finished", cfg.steps)
    assert result.loss["total"] < 0.7 * seen[0].loss["total"]
    assert result.loss["auxiliary"] < 0.6 * seen[0].loss["auxiliary"]
    assert set(result.loss) == {
        "charbonnier", "regions", "dssim", "laplacian", "mask_bce", "mask_dice", "cycle", "consistency", "auxiliary",
        "identity", "total",
    }  # fmt: skip
    before = untrained_scores(cfg, folder, tmp_path)
    assert result.scores["swap"].psnr_masked_db > before["swap"].psnr_masked_db + 3
    assert result.scores["swap"].mask_iou > 0.8
    assert [p.step for p in seen] == list(range(1, cfg.steps + 1))
    assert (seen[-1].fraction, seen[-1].eta_s) == (1, 0)


def test_each_modality_alone_still_makes_the_swap(trained, folder, tmp_path):
    result, _, cfg = trained
    before = untrained_scores(cfg, folder, tmp_path)
    for alone in ("picture_alone", "points_alone"):
        assert result.scores[alone].psnr_masked_db > before[alone].psnr_masked_db + 1.5, alone
        assert result.scores[alone].mask_iou > 0.7, alone


def test_the_vector_decides_who_is_seen(trained, folder):
    result, _, cfg = trained
    encoder, _ = checkpoint.load_encoder(result.encoder)
    trunk, _ = load_trunk(result.trunk)
    people = load_people(result.people)
    pairs = UniversalPairs(folder, "unseen", cfg.network, seed=cfg.seed, held_out=cfg.held_out, truths=False)
    faces = pairs.every(48)
    assert people.names == pairs.names
    with torch.no_grad():
        code = encoder(faces.inputs, faces.points, faces.present)
        right, other = (
            (trunk(code, people.vectors[rows])[0] - faces.truths).mul(faces.masks).square().mean()
            for rows in (faces.personas, (faces.personas + 1) % len(people.names))
        )
    assert float(right) < 0.8 * float(other)


def test_a_run_leaves_what_later_stages_load(trained):
    result, _, cfg = trained
    folder = result.encoder.parent
    names = {json.loads((folder / f"{part}.json").read_text())["kind"] for part in ("encoder", "trunk", "people")}
    assert names == {"encoder", "trunk", "people"}
    trunk_json, people_json = (json.loads((folder / f"{p}.json").read_text()) for p in ("trunk", "people"))
    assert trunk_json["encoder_sha256"] == json.loads((folder / "encoder.json").read_text())["sha256"]
    assert people_json["trunk_sha256"] == trunk_json["sha256"]
    assert json.loads((folder / "report.json").read_text())["step"] == cfg.steps
    assert json.loads((folder / "config.json").read_text())["network"]["mesh_points"] == len(MESH_SUBSET)
    assert cv2.imread(str(result.sheet)).shape == (8 * 32, 3 * 32, 3)
    trunk, people = load_trunk(result.trunk)[0], load_people(result.people)
    assert len(people.names) == 6  # of eight, two are held out
    code = torch.randn(2, cfg.network.code_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, shipped = (
            trunk(code, people.vectors[:1].expand(2, -1))[0],
            persona_decoder(trunk, people.vectors[0])(code),
        )
    assert torch.allclose(ours, shipped[0], atol=1e-5)
    with pytest.raises(SettingsError, match="vector"):
        persona_decoder(trunk, people.vectors[0, :-1])


def test_people_without_names_are_refused(trained, tmp_path):
    people = load_people(trained[0].people)
    for bad in ({"names": ["one"]}, {"names": None}):
        checkpoint.save(tmp_path / "people", "people", {"vectors": people.vectors}, bad)
        with pytest.raises(DataError, match="every name"):
            load_people(tmp_path / "people")
    with pytest.raises(DataError, match="kind"):
        load_people(trained[0].trunk)


def test_a_killed_run_continues_to_the_same_weights(quick, folder, tmp_path):
    whole = train_universal(quick, folder, tmp_path / "whole", clock=Clock())

    def kill(progress):
        if progress.step == 4:
            raise Killed

    often = replace(quick, checkpoint_minutes=0.0, report_seconds=0)
    with pytest.raises(Killed):
        train_universal(often, folder, tmp_path / "killed", kill, clock=Clock())
    assert not (tmp_path / "killed" / "report.json").exists()
    steps = []
    again = train_universal(often, folder, tmp_path / "killed", lambda p: steps.append(p.step), clock=Clock())
    assert steps == [5, 6]
    assert equal(weights(whole), weights(again))
    assert len(list((tmp_path / "killed" / "state").glob("*.safetensors"))) == 1


def test_another_run_is_not_continued(quick, folder, tmp_path):
    train_universal(quick, folder, tmp_path)
    for other in (replace(quick, seed=1), replace(quick, shards=1), replace(quick, weights=UniversalWeights(cycle=0))):
        with pytest.raises(TrainingError, match="another run"):
            train_universal(other, folder, tmp_path)
    assert train_universal(replace(quick, steps=7, threads=2), folder, tmp_path).step == 7
    with pytest.raises(SettingsError, match="equal parts"):
        train_universal(replace(quick, shards=3), folder, tmp_path)


def test_a_run_may_begin_with_an_earlier_one_and_put_the_state_into_the_code(trained, quick, folder, tmp_path):
    before, _, cfg = trained
    state = state_size(read_index(folder).info)
    wider = replace(
        quick, network=with_state(quick.network, mesh_points=len(MESH_SUBSET), state_size=state), steps=2,
        learning_rate=1e-5, validation_faces=cfg.validation_faces,
    )  # fmt: skip
    result = train_universal(wider, folder, tmp_path, start_from=before.encoder.parent)
    fresh = train_universal(wider, folder, tmp_path / "fresh")
    assert result.scores["swap"].psnr_masked_db > before.scores["swap"].psnr_masked_db - 1
    assert result.scores["swap"].psnr_masked_db > fresh.scores["swap"].psnr_masked_db + 1
    longer = replace(wider, steps=3)
    with pytest.raises(TrainingError, match="another run"):
        train_universal(longer, folder, tmp_path)
    assert train_universal(longer, folder, tmp_path, start_from=before.encoder.parent).step == 3


def test_a_trunk_on_the_frozen_encoder_of_a_smaller_run(trained, quick, folder, tmp_path):
    before, _, cfg = trained
    sizes = replace(quick.network, tier="larger", decoder_widths=tuple(w + 2 for w in quick.network.decoder_widths))
    larger = on_top(replace(quick, network=sizes, validation_faces=cfg.validation_faces, learning_rate=1e-4))
    result = train_universal(larger, folder, tmp_path / "larger", start_from=before.encoder.parent)
    assert result.scores["swap"].psnr_masked_db > before.scores["swap"].psnr_masked_db - 0.5
    was, now = weights(before), weights(result)
    assert all(torch.equal(t, now[name]) for name, t in was.items() if name.startswith("encoder"))
    with pytest.raises(SettingsError, match="come from a run"):
        train_universal(larger, folder, tmp_path / "alone")
    with pytest.raises(SettingsError, match="learns nothing"):
        replace(larger, weights=UniversalWeights())


def test_a_damaged_state_is_named(quick, folder, tmp_path):
    train_universal(replace(quick, steps=1), folder, tmp_path)
    state = next((tmp_path / "state").glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(DataError, match="sha256"):
        train_universal(quick, folder, tmp_path)


@pytest.mark.parametrize("how", ["ctrl-c", "sigint", "sigterm"])
def test_an_interruption_saves_and_ends(quick, folder, tmp_path, how):
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(progress):
        if progress.step == 3 and how == "ctrl-c":
            raise KeyboardInterrupt
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT if how == "sigint" else signal.SIGTERM)

    often = replace(quick, report_seconds=0)
    result = train_universal(often, folder, tmp_path, interrupt)
    assert (result.stopped, result.step) == ("interrupted", 3)
    assert signal.getsignal(signal.SIGTERM) == before
    assert train_universal(often, folder, tmp_path).step == 6


def test_divergence_stops_and_keeps_the_last_good_weights(quick, folder, tmp_path, monkeypatch):
    honest = UniversalPairs.draw

    def poisoned(self, step, *args, **kwargs):
        examples = honest(self, step, *args, **kwargs)
        if step == 3:
            examples.inputs[0, 0, 0, 0] = torch.nan
        return examples

    monkeypatch.setattr(UniversalPairs, "draw", poisoned)
    with pytest.raises(TrainingError, match="step 3") as caught:
        train_universal(replace(quick, checkpoint_minutes=0.0), folder, tmp_path, clock=Clock())
    assert "learning_rate" in caught.value.hint
    kept, meta = checkpoint.load_encoder(tmp_path / "encoder")
    assert meta["step"] == 3
    assert all(bool(torch.isfinite(p).all()) for p in kept.parameters())


def test_the_schedule_may_be_a_time(quick, folder, tmp_path):
    result = train_universal(replace(quick, steps=1000, max_minutes=0.2), folder, tmp_path, clock=Clock())
    assert result.stopped == "finished"
    assert 6 <= result.step <= 13


def test_a_set_without_further_truth_will_do_for_an_encoder_of_pictures(quick, small_sizes, tmp_path):
    plain = write_people(tmp_path / "plain", people=4, states=12, mesh=False)
    with pytest.raises(DataError, match="mesh"):
        train_universal(quick, plain, tmp_path / "run")
    off = UniversalWeights(cycle=0, consistency=0, auxiliary=0, adversary=0)
    result = train_universal(replace(quick, network=small_sizes, weights=off), plain, tmp_path / "run")
    assert set(result.loss) == {"charbonnier", "regions", "dssim", "laplacian", "mask_bce", "mask_dice", "total"}
    assert set(result.scores) == {"swap"}
    state = next((tmp_path / "run" / "state").glob("*.safetensors"))
    assert b"adversary" not in state.read_bytes()
    assert b"auxiliary" not in state.read_bytes()


def test_a_set_of_wearers_and_personas_trains_the_personas(quick, small_sizes, cartoon_folder, tmp_path):
    apart = replace(quick, network=small_sizes, steps=2, wearers_too=0.0)
    result = train_universal(apart, cartoon_folder, tmp_path / "apart")
    assert load_people(result.people).names == ("mara", "odin")
    result = train_universal(replace(apart, wearers_too=0.5), cartoon_folder, tmp_path / "together")
    names = load_people(result.people).names
    assert {"mara", "odin"} < set(names)
    index = read_index(cartoon_folder)
    assert set(names) == {s.identity for s in index.shards if s.split == "train"}


def test_settings_that_make_no_sense_are_refused(quick, small_sizes, folder, tmp_path):
    with pytest.raises(SettingsError, match="mirror"):
        replace(quick, augment=replace(quick.augment, flip_chance=0.5))
    with pytest.raises(SettingsError, match="mesh points"):
        replace(quick, network=replace(small_sizes, mesh_points=5))
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="CUDA"):
            train_universal(replace(quick, device="cuda"), folder, tmp_path)


def test_equal_seeds_give_equal_networks(mesh_sizes):
    kwargs = {"wearers": 3, "truths": (3, 2)}
    a, b = (UniversalNetworks(mesh_sizes, 4, seed=5, **kwargs).state_dict() for _ in range(2))
    assert equal(a, b)
    assert not equal(a, UniversalNetworks(mesh_sizes, 4, seed=6, **kwargs).state_dict())


def test_as_on_a_gpu_parts_are_prepared_ahead_and_learned_as_one(quick, folder, tmp_path, monkeypatch):
    """The path of "cuda", played on the processor: to the same weights but for the terms that a batch shares."""
    seen = []

    class Spy(universal.Feeder):
        def take(self, step):
            parts = super().take(step)
            seen.append((step, len(parts)))
            return parts

    @contextmanager
    def pretended(device):
        with joined("cpu") as team:
            yield SimpleNamespace(
                rank=0, world=1, leads=True, device=SimpleNamespace(type="cuda"), sum=team.sum, told=team.told,
                anyone=team.anyone, check_equal=team.check_equal,
            )  # fmt: skip

    parts = train_universal(quick, folder, tmp_path / "parts")
    monkeypatch.setattr(universal, "Feeder", Spy)
    monkeypatch.setattr(universal, "joined", pretended)
    monkeypatch.setattr(UniversalNetworks, "to", lambda self, *args, **kwargs: self)
    monkeypatch.setattr(universal.Examples, "on", lambda self, device: self)
    whole = train_universal(replace(quick, ahead=2, threads=2), folder, tmp_path / "whole")
    assert seen == [(step, quick.shards) for step in range(6)]
    assert whole.loss["total"] == pytest.approx(parts.loss["total"], rel=0.05)
