"""docs/refusals.md promises what files and tests enforce: they are there, and what no other test holds is held here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from calibration.enrollment import EnrollOptions
from engines.errors import SettingsError
from realtime.config import Settings
from realtime.sink import open_sink

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "refusals.md").read_text()
NAMED = re.compile(r"`((?:engines|calibration|realtime|tests|benchmarks|docs)/[\w/.-]+\.(?:py|md))(?:::(\w+))?`")


def missing(page: str) -> list[str]:
    """What a page names and the repository does not have."""
    found = []
    for path, name in NAMED.findall(page):
        file = ROOT / path
        if not file.is_file():
            found.append(path)
        elif name and not re.search(rf"^\s*(?:def|class) {name}\b", file.read_text(), re.MULTILINE):
            found.append(f"{path}::{name}")
    return found


def test_every_file_and_test_that_the_page_names_is_there() -> None:
    assert len(NAMED.findall(PAGE)) > 40
    assert missing(PAGE) == []


def test_a_name_that_is_wrong_is_seen() -> None:
    page = "`realtime/nothing.py` `tests/test_refusals.py::test_gone` `tests/test_refusals.py::missing`"
    assert missing(page) == ["realtime/nothing.py", "tests/test_refusals.py::test_gone"]


def test_nothing_that_is_refused_is_without_code_and_a_test() -> None:
    rows = [row for row in PAGE.split("## What the law asks")[0].splitlines() if row.startswith("| **")]
    assert len(rows) >= 12
    for column in (2, 3):  # what refuses it, and what breaks otherwise
        assert [row[:60] for row in rows if not NAMED.search(row.split("|")[column])] == []


def test_one_picture_is_no_enrollment() -> None:
    assert EnrollOptions().least == 8
    for least in (0, 1, 3):
        with pytest.raises(SettingsError):
            EnrollOptions(least=least)


def test_no_option_takes_the_mark_away() -> None:
    """``mark`` as a word of an option: there is none, on the command line or in a profile."""
    assert [name for name in Settings.model_fields if "mark" in name.split("_")] == []
    session = (ROOT / "realtime" / "session.py").read_text()
    assert len(re.findall(r"\bmark=marker\(data_folder\(\), files\.session_id, ", session)) == 1


@pytest.mark.parametrize("address", ["rtmp://example.org/live", "https://example.org/in", "udp://10.0.0.1:5000"])
def test_pictures_are_sent_to_no_address(address: str) -> None:
    with pytest.raises(SettingsError, match="no output"):
        open_sink(address)
