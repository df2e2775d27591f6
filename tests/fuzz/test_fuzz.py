"""A short run of every fuzzer, and each case that once was a finding. Longer: python -m tests.fuzz --minutes 10."""

from __future__ import annotations

import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if sys.platform == "win32":
    pytest.skip("the watch bounds memory as POSIX does", allow_module_level=True)
pytest.importorskip("torch")

from engines.errors import PersonacamError, SettingsError
from realtime.config import Settings, resolve
from tests.fuzz.targets import TARGETS, Target, mutated, unpack
from tests.fuzz.watch import Watch

CORPUS = Path(__file__).parent / "corpus"
QUICK = settings(max_examples=8, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="session")
def watch():
    return Watch()


@pytest.fixture(autouse=True)
def quiet(capfd):
    """Decoders complain to the terminal."""
    yield
    capfd.readouterr()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")  # of parsers, about the damage
def test_mutated_files_are_read_or_refused(watch, name, tmp_path):
    target = TARGETS[name]
    seeds = target.seeds()
    for file, data in seeds[0].items():
        (tmp_path / file).write_bytes(data)
    target.read(tmp_path)  # unwatched: what is imported and compiled on the way, and that the reader accepts it
    assert watch.run(target, seeds[0]) is None

    @QUICK
    @given(st.integers(0, 2**32))
    def attempt(number):
        rng = random.Random(number)
        assert watch.run(target, mutated(target, rng, rng.choice(seeds))) is None

    attempt()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.zip")), ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.filterwarnings("ignore")
def test_findings_stay_repaired(watch, path):
    assert watch.run(TARGETS[path.parent.name], unpack(path.read_bytes())) is None


# ---- the watch can see -----------------------------------------------------------------------------------------------


def _escape(folder: Path) -> None:
    (folder.parent / "escaped").write_bytes(b"x")


def _elsewhere(folder: Path) -> None:
    Path("/var/tmp/personacam-nobody-has-this").open().close()


def _connect(folder: Path) -> None:
    with socket.socket() as connection:
        connection.settimeout(0.1)
        connection.connect(("127.0.0.1", 9))


def _crash(folder: Path) -> None:
    raise KeyError("x")


def _unhelpful(folder: Path) -> None:
    raise PersonacamError("it failed", hint="")


@pytest.mark.parametrize(
    ("read", "seen"),
    [(_escape, "writing"), (_elsewhere, "reading|FileNotFound"), (_connect, "connect|refused"), (_crash, "KeyError"),
     (_unhelpful, "without message or hint")],
)  # fmt: skip
def test_a_reader_that_misbehaves_is_seen(watch, read, seen):
    found = watch.run(Target(list, read), {"a": b""})
    assert found is not None
    assert any(word in found for word in seen.split("|")), found


# ---- options ---------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)) | st.text(max_size=12), VALUES, max_size=4))
def test_options_are_settings_or_an_error_of_ours(values: dict[str, Any]):
    try:
        found: object = resolve(values)
    except SettingsError as error:
        found = error
    assert isinstance(found, Settings) or (found.message and found.hint)
