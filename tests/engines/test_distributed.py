"""Two processes on a processor: the same step everywhere, the same weights as one process with all the parts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from engines import checkpoint, universal
from engines.distributed import interruptible, joined
from engines.errors import SettingsError, TrainingError
from engines.mesh_subset import MESH_SUBSET
from engines.universal import UniversalConfig, train_universal
from tests.engines.synthetic import write_people

WORLD = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), people=6, states=24)


@pytest.fixture
def cfg(small_sizes):
    sizes = replace(small_sizes, mesh_points=len(MESH_SUBSET))
    return UniversalConfig(
        network=sizes, steps=4, batch=8, warmup_steps=1, validation_faces=4, threads=1, cycle_every=2, shards=1,
        consistency_every=2, held_out=0.2,
    )  # fmt: skip


def _member(rank: int, port: int, cfg: UniversalConfig, folder: Path, out: Path, errors: Path) -> None:
    """What torchrun would have started; leaves the weights that this process ended with."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    runs, groups, real = [], [], universal.new_run

    def new_run(*args):
        groups.append(weakref.ref(dist.group.WORLD))
        runs.append(real(*args))
        return runs[-1]

    universal.new_run = new_run
    steps = []

    def interrupt(progress):
        steps.append(progress.step)
        if cfg.steps > 100 and progress.step == 3:
            raise KeyboardInterrupt

    try:
        if rank and cfg.seed == 99:  # another machine that does not see the run folder of the first
            out = out.with_name("elsewhere")
        train_universal(cfg, folder, out, interrupt)
        assert bool(steps) == (rank == 0 and cfg.report_seconds == 0)
        checkpoint.save(errors / f"rank-{rank}", "training", runs[0].networks.state_dict(), {"step": runs[0].step})
    except TrainingError as error:
        (errors / f"rank-{rank}.txt").write_text(error.message)
    assert groups[0]() is None, "the group's threads outlive it and abort the process when the interpreter ends"


def launch(cfg, folder, out, results):
    results.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    members = [context.Process(target=_member, args=(r, port, cfg, folder, out, results)) for r in range(WORLD)]
    for member in members:
        member.start()
    for member in members:
        member.join(120)
        assert member.exitcode == 0


def test_two_processes_equal_one_with_twice_the_shards(cfg, folder, tmp_path):
    train_universal(replace(cfg, shards=2), folder, tmp_path / "alone")
    launch(cfg, folder, tmp_path / "two", tmp_path / "results")
    alone = checkpoint.load(next((tmp_path / "alone" / "state").glob("*.json")).with_suffix(""), "training").tensors
    start = universal.UniversalNetworks(cfg.network, 5, wearers=6, truths=(3, 2, 2), seed=cfg.seed).state_dict()
    first, second = (checkpoint.load(tmp_path / "results" / f"rank-{r}", "training").tensors for r in range(WORLD))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in first:
        assert torch.allclose(first[name], alone[f"networks.{name}"], atol=1e-6), name
    assert (first["encoder.to_code.weight"] - start["encoder.to_code.weight"]).abs().max() > 1e-4


def test_two_processes_continue_the_run_of_one(cfg, folder, tmp_path):
    begun = train_universal(replace(cfg, shards=2, steps=2), folder, tmp_path / "run")
    launch(replace(cfg, report_seconds=0), folder, tmp_path / "run", tmp_path / "results")
    first, second = (checkpoint.load(tmp_path / "results" / f"rank-{r}", "training") for r in range(WORLD))
    assert (begun.step, first.meta["step"], second.meta["step"]) == (2, 4, 4)
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_an_interruption_of_one_ends_all_at_the_same_step(cfg, folder, tmp_path):
    launch(replace(cfg, steps=1000, report_seconds=0), folder, tmp_path / "two", tmp_path / "results")
    steps = [checkpoint.load(tmp_path / "results" / f"rank-{r}", "training").meta["step"] for r in range(WORLD)]
    assert steps == [3, 3]
    assert (tmp_path / "two" / "report.json").exists()


def test_processes_that_see_different_folders_say_so(cfg, folder, tmp_path):
    cfg = replace(cfg, seed=99)
    train_universal(replace(cfg, shards=2, steps=1), folder, tmp_path / "two")
    launch(cfg, folder, tmp_path / "two", tmp_path / "results")
    for r in range(WORLD):
        assert "disagree" in (tmp_path / "results" / f"rank-{r}.txt").read_text()


def test_alone_nothing_is_exchanged():
    with joined("cpu") as team:
        assert (team.rank, team.world, team.leads) == (0, 1, True)
        gradient, values = torch.ones(3), torch.tensor([2.0])
        assert torch.equal(team.sum([gradient], values), values)
        assert team.told([1.5]) == [1.5]
        assert not team.anyone(here=False)
        team.check_equal(3, "anything")


def test_an_environment_that_makes_no_sense_is_named(monkeypatch):
    with pytest.raises(SettingsError, match="device"), joined("tpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(SettingsError, match="WORLD_SIZE"), joined("cpu"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(SettingsError, match="cannot join"), joined("cpu"):
        pass


def test_the_first_signal_asks_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_of_the_main_thread_signals_stay_as_they_are():
    found = []

    def inside():
        with interruptible() as asked:
            found.append((asked.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=inside)
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join()
    assert found == [(False, before)]
