"""Which file of a persona in several tiers is meant."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from engines.errors import PersonaNotFoundError
from realtime import store as module
from realtime.store import TieredStore, tier_of


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Files that say their tier in their first line instead of being personas."""
    monkeypatch.setattr(module, "tier_of", lambda path: path.read_text() or None)

    def put(path: str, tier: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(tier)

    for path, tier in (
        ("shipped/vera.persona", "tiny"),
        ("shipped/small/vera.persona", "small"),
        ("shipped/base/vera.persona", "base"),
        ("shipped/small/marit.persona", "small"),
        ("own/vera.persona", "small"),
        ("own/nobody.persona", "base"),
        ("own/torn.persona", ""),
    ):
        put(path, tier)
    return tmp_path


@pytest.fixture
def store(folders):
    return TieredStore([folders / "shipped", folders / "own"])


def test_a_name_alone_is_the_smallest(store, folders):
    assert store.find("vera") == folders / "shipped" / "vera.persona"
    assert store.find("marit") == folders / "shipped" / "small" / "marit.persona"
    assert store.find("nobody") == folders / "own" / "nobody.persona"
    assert [p.stem for p in store.list()] == ["marit", "nobody", "torn", "vera"]


def test_a_tier_is_what_the_file_says(store, folders):
    assert store.find("vera", "tiny") == folders / "shipped" / "vera.persona"
    assert store.find("vera", "base") == folders / "shipped" / "base" / "vera.persona"
    assert store.find("nobody", "base") == folders / "own" / "nobody.persona"
    path = folders / "shipped" / "small" / "vera.persona"
    assert store.find(path, "small") == path
    assert list(store.tiers("vera")) == ["tiny", "small", "base"]
    assert store.tiers("torn") == {}


@pytest.mark.parametrize(("name", "tier", "hint"), [("marit", "tiny", "small"), ("torn", "tiny", "none")])
def test_a_tier_that_is_not_there_names_those_that_are(store, name, tier, hint):
    with pytest.raises(PersonaNotFoundError, match=f"no tier '{tier}'") as error:
        store.find(name, tier)
    assert hint in error.value.hint


def test_a_name_that_is_not_there(store):
    with pytest.raises(PersonaNotFoundError) as error:
        store.find("verra", "small")
    assert "vera" in error.value.hint


def test_real_files_say_their_tier(tmp_path):
    shipped = Path(str(resources.files("realtime").joinpath("personas", "vera.persona")))
    assert tier_of(shipped) == "tiny"
    shutil.copy(shipped, tmp_path / "x.persona")
    (tmp_path / "y.persona").write_text(json.dumps({}))
    assert TieredStore([tmp_path]).tiers("x") == {"tiny": tmp_path / "x.persona"}
    assert tier_of(tmp_path / "y.persona") is None


def test_a_persona_that_was_begun_says_how_it_goes_on(store, folders):
    (folders / "enrolled" / "ver").mkdir(parents=True)
    with pytest.raises(PersonaNotFoundError, match="not finished") as caught:
        store.find("ver")
    assert "train persona ver" in caught.value.hint
