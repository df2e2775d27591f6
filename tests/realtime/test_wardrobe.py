"""Personas that wait to be put on."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from engines.errors import PersonaNotFoundError
from realtime.config import Settings
from realtime.quality import Worn
from realtime.wardrobe import Wardrobe


class Runtime:
    closed = 0

    def close(self):
        self.closed += 1


class World:
    def __init__(self, most=2):
        self.loaded, self.gone, self.step = [], [], threading.Semaphore(0)
        self.wardrobe = Wardrobe(
            self.load, lambda wanted: not wanted.persona.startswith("real"), self.gone.append, most
        )

    def load(self, settings):
        self.loaded.append(settings.persona)
        self.step.release()
        if settings.persona == "damaged":
            raise PersonaNotFoundError("damaged", hint="test")
        kind = "person" if settings.persona.startswith("real") else "invented"
        return Worn(SimpleNamespace(manifest=SimpleNamespace(kind=kind)), Runtime(), None, None)

    def prepared(self, name):
        self.wardrobe.prepare(Settings(persona=name))
        assert self.step.acquire(timeout=10)


@pytest.fixture
def world():
    made = World()
    yield made
    made.wardrobe.close()


def test_what_was_prepared_is_not_loaded_again(world):
    world.prepared("a")
    world.wardrobe.take(Settings(persona="a"))  # waits for it, if it is still on its way
    assert world.loaded == ["a"]


def test_another_tier_or_runtime_is_another_thing(world):
    world.wardrobe.put_back(world.wardrobe.take(Settings(persona="a")))
    assert world.wardrobe.is_ready(Settings(persona="a"))
    assert not world.wardrobe.is_ready(Settings(persona="a", tier="small"))
    assert not world.wardrobe.is_ready(Settings(persona="a", runtime="onnxruntime"))


def test_the_one_used_least_lately_goes(world):
    taken = {name: world.wardrobe.take(Settings(persona=name)) for name in "abc"}
    for worn in taken.values():
        world.wardrobe.put_back(worn)
    assert [worn.runtime.closed for worn in taken.values()] == [1, 0, 0]


def test_real_people_never_wait(world):
    world.wardrobe.prepare(Settings(persona="real"))
    world.prepared("a")
    assert world.loaded == ["a"]
    worn = world.wardrobe.take(Settings(persona="real"))
    world.wardrobe.put_back(worn)
    assert (world.gone, worn.runtime.closed) == ([worn], 1)
    assert not world.wardrobe.is_ready(Settings(persona="real"))


def test_what_cannot_be_loaded_is_told_when_it_is_asked_for(world):
    world.prepared("damaged")
    with pytest.raises(PersonaNotFoundError):
        world.wardrobe.take(Settings(persona="damaged"))


def test_closing_frees_all_and_what_comes_back_later(world):
    first, second = (world.wardrobe.take(Settings(persona=name)) for name in "ab")
    world.wardrobe.put_back(first)
    world.wardrobe.close()
    world.wardrobe.put_back(second)
    assert first.runtime.closed == second.runtime.closed == 1
