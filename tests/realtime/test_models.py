"""Fetching InsightFace's pack without a network: who is asked, what is left behind, what is said."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import requests

from engines.errors import MissingDependencyError, SettingsError
from realtime import models
from realtime.models import LICENCE_SUMMARY, download_with_insightface, fetch_insightface, locate_insightface


def fake_download(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "det_10g.onnx").write_bytes(b"network")
    (folder / f"{name}.zip").write_bytes(b"archive")


def test_the_licence_says_what_matters() -> None:
    assert "NON-COMMERCIAL RESEARCH" in LICENCE_SUMMARY


def test_nothing_happens_without_a_yes(tmp_path: Path) -> None:
    def never(folder: Path, name: str) -> None:
        raise AssertionError("downloaded without a yes")

    with pytest.raises(SettingsError, match="not accepted"):
        fetch_insightface(accept=False, folder=tmp_path / "models", downloader=never)
    assert list(tmp_path.iterdir()) == []


def test_fetched_once_and_found_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    pack = fetch_insightface(accept=True, folder=folder, downloader=fake_download)
    assert pack == folder / "buffalo_l"
    assert (pack / "det_10g.onnx").read_bytes() == b"network"
    assert [p.name for p in folder.iterdir()] == ["buffalo_l"]  # neither the archive nor a temporary folder stays
    assert locate_insightface(folder) == pack

    def never(folder: Path, name: str) -> None:
        raise AssertionError("it is there already")

    assert fetch_insightface(accept=True, folder=folder, downloader=never) == pack


def test_archives_with_an_inner_folder(tmp_path: Path) -> None:
    def nested(folder: Path, name: str) -> None:
        (folder / name / name).mkdir(parents=True)
        (folder / name / name / "det_10g.onnx").touch()

    pack = fetch_insightface(accept=True, folder=tmp_path, downloader=nested)
    assert (pack / "det_10g.onnx").exists()


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("no route"),
        RuntimeError("Failed downloading url"),
        zipfile.BadZipFile("not a zip"),
        OSError("disk full"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_offline_says_so_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    def broken(folder: Path, name: str) -> None:
        (folder / "half").write_bytes(b"x")
        raise error

    with pytest.raises(MissingDependencyError, match="could not be fetched") as caught:
        fetch_insightface(accept=True, folder=tmp_path, downloader=broken)
    assert "buffalo_l.zip" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_a_detector(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="no detection network"):
        fetch_insightface(accept=True, folder=tmp_path, downloader=lambda folder, name: None)
    assert list(tmp_path.iterdir()) == []


def test_the_real_helper_unpacks_below_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """insightface's own code, with only its transfer replaced; its chatter must not reach stdout."""
    from insightface.utils import storage

    def transfer(url: str, path: str, overwrite: bool) -> None:
        assert url.endswith("/buffalo_l.zip")
        print("Downloading")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("det_10g.onnx", b"network")

    monkeypatch.setattr(storage, "download_file", transfer)
    pack = fetch_insightface(accept=True, folder=tmp_path / "m", downloader=download_with_insightface)
    assert (pack / "det_10g.onnx").read_bytes() == b"network"
    assert capsys.readouterr().out == ""


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_insightface(tmp_path / "none") is None
    assert locate_insightface(tmp_path) is None
    for name in ("antelopev2", "buffalo_l"):
        (tmp_path / name).mkdir()
    (tmp_path / "antelopev2" / "scrfd_10g.onnx").touch()
    assert locate_insightface(tmp_path) == tmp_path / "antelopev2"
    (tmp_path / "buffalo_l" / "det_10g.onnx").touch()
    assert locate_insightface(tmp_path) == tmp_path / "buffalo_l"
    assert locate_insightface(tmp_path / "buffalo_l") == tmp_path / "buffalo_l"
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert models.default_insightface_folder() == tmp_path / ".insightface" / "models"
