"""What a run asks consent for, and that it ends with it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ConsentExpiredError, ConsentMissingError
from engines.persona import read_persona
from engines.types import AlignedFace
from realtime import config
from realtime.admission import admitted, log_end, purposes_of
from realtime.swap import Swapper
from tests.calibration.consent_world import World, enrolled
from tests.onnx_models import S, T, write

LIVE, KEPT = ("stream", "call"), ("recording", "film")


@pytest.mark.parametrize(
    ("sinks", "stated", "groups"),
    [
        (["virtualcam"], None, (LIVE,)),
        (["virtualcam:/dev/video9", "a.mp4"], None, (LIVE, KEPT)),
        (["a.mp4", "b.mkv"], None, (KEPT,)),
        (["preview", "null"], None, ()),
        (["virtualcam"], "call", (("call",),)),
        (["virtualcam", "a.mp4"], "call", (("call",), KEPT)),
        (["a.mp4"], "film", (("film",),)),
        (["virtualcam"], "film", (("film",), LIVE)),
        (["virtualcam", "a.mp4"], "research", (("research",),)),
    ],
)
def test_outputs_say_what_a_run_is_for(sinks, stated, groups) -> None:
    assert purposes_of(sinks, stated) == groups


def test_the_purposes_are_those_of_records() -> None:
    from typing import get_args

    from calibration.consent import PURPOSES

    stated = config.Settings.model_fields["purpose"].annotation
    assert set(get_args(get_args(stated)[0])) == set(PURPOSES)


def test_invented_people_are_read_as_before(tmp_path: Path) -> None:
    path = write(tmp_path / "ada.persona")
    persona = admitted(tmp_path, path, ["virtualcam"], None, None, say=pytest.fail)
    assert persona == read_persona(path)
    assert [p.name for p in tmp_path.iterdir()] == ["ada.persona"]


def test_a_real_person_goes_through_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world: World = enrolled(tmp_path / "world")
    monkeypatch.setattr("realtime.admission.Gatekeeper", lambda home, warn: world.gate)
    persona = admitted(world.home, world.file, ["virtualcam"], None, None, say=pytest.fail)
    assert persona.valid_until is not None
    log_end(world.home, persona, {"sent": 9, "swapped": 8}, say=pytest.fail)
    log_end(tmp_path, read_persona(write(tmp_path / "bea.persona")), {"sent": 1}, say=pytest.fail)
    last = world.gate.store.log.entries()[-1]
    assert (last.event, last.persona, last.details["frames"]["swapped"]) == ("run", "ada", 8)
    world.standing.parent.parent.joinpath("audit", "head.json").write_text("{}")
    said: list[str] = []
    log_end(world.home, persona, {"sent": 9}, say=said.append)
    assert "not logged" in said[0]
    world.standing.parent.parent.joinpath("audit", "head.json").unlink()
    world.standing.parent.parent.joinpath("audit", "log.jsonl").unlink()
    world.rewrite(world.file, key=world.key, consent=None)
    with pytest.raises(ConsentMissingError):
        admitted(world.home, world.file, ["virtualcam"], None, None, say=pytest.fail)


class Network:
    """A runtime that gives black."""

    name, precision, crop_size, swap_size = "onnxruntime", "f32", S, T

    def calibrate(self, gain, shift): ...

    def swap(self, crop, points):
        return np.zeros((T, T, 3), np.uint8), np.zeros((T, T), np.uint8)

    def close(self): ...


def test_a_consent_that_ends_while_running_ends_the_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    face = AlignedFace(0, np.zeros((S, S, 3), np.uint8), np.eye(2, 3))
    persona = read_persona(write(tmp_path / "ada.persona"))
    wall, steady = time.time(), time.monotonic()
    swapper = Swapper(replace(persona, valid_until=wall + 100), Network())
    swapper.swap(face)
    monkeypatch.setattr("realtime.swap.time.time", lambda: wall + 101)
    with pytest.raises(ConsentExpiredError):
        swapper.swap(face)
    monkeypatch.setattr("realtime.swap.time.time", lambda: wall - 1000)  # set back while it runs
    swapper.swap(face)
    monkeypatch.setattr("realtime.swap.time.monotonic", lambda: steady + 1200)
    with pytest.raises(ConsentExpiredError):
        swapper.swap(face)
    Swapper(persona, Network()).swap(face)  # an invented person never ends
