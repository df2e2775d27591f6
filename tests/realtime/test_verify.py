"""``personacam verify``: what it says about files with a mark, without one, and about what is no video."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import SettingsError, SourceError, SourceFormatError, SourceNotFoundError
from realtime import verify_video
from realtime.cli import app
from realtime.config import Settings
from realtime.credentials import CredentialClaim, Credentials
from realtime.detect import MeshDetector
from realtime.mark import Marker
from realtime.mark_keys import export_key, own_key
from realtime.session import data_folder, run_session
from realtime.session_record import FOLDER, Session, SessionStore, WornPersona
from realtime.verify import local_path, verify, words

SESSION = 0x0123456789ABCDEF
SIZE = (326, 180)  # its rows do not end where FFmpeg likes them to


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch):
    """The search over all sizes takes seconds."""
    monkeypatch.setattr("engines.mark_detect.SIZES", (0.99, 1.01))
    monkeypatch.setattr("engines.mark_detect._SHAPES", 1)


class Blind:
    """A detector that sees no face, and takes what the kernels take."""

    name = "blind"

    def search(self, frame):
        assert frame.pixels.flags.c_contiguous

    follow = confirm = None

    def close(self):
        pass


def pictures(count=12):
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(40, 210, (9, 20, 3)).astype(np.uint8), (SIZE[0] + 120, SIZE[1]), interpolation=2)
    for k in range(count):
        yield np.ascontiguousarray(scene[:, 9 * k : 9 * k + SIZE[0]])


def write(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def home(tmp_path):
    """A computer with a key and the record of one session."""
    folder = tmp_path / "home"
    own_key(folder)
    persona = WornPersona("vera", "ab" * 32, "invented", None, "2026-01-31T12:00:00Z")
    Session(SessionStore(folder / FOLDER), persona, SESSION)
    return folder


@pytest.fixture
def marked(tmp_path, home):
    def made():
        marker = Marker(own_key(home), SESSION, SIZE)
        for pixels in pictures():
            marker.draw(pixels)
            yield pixels

    return write(tmp_path / "marked.mp4", made())


@pytest.fixture
def plain(tmp_path):
    return write(tmp_path / "plain.mp4", pictures())


def test_the_own_session_is_found_with_its_record(marked, home):
    verdict = verify(marked, home, Blind())
    assert verdict.mark.found
    assert verdict.own
    assert verdict.session.session_id == SESSION
    value = json.loads(json.dumps(verdict.as_dict()))
    mark = value["mark"]
    assert (mark["found"], mark["session"]) == (True, "0123456789abcdef")
    assert mark["bits_matched"] > 55
    assert mark["p_value"] < 1e-6
    assert value["c2pa"]["state"] == "none"
    assert value["sessions"][0]["personas"][0]["name"] == "vera"
    shown, missing = words(verdict)
    assert any("0123456789abcdef" in line and "vera" in line for line in shown)
    assert any("Who wore" in line for line in missing)


def test_another_computer_needs_the_key(marked, home, tmp_path):
    other = tmp_path / "other"
    own_key(other)
    verdict = verify(marked, other, Blind())
    assert not verdict.mark.found
    assert any("proves nothing" in line for line in words(verdict)[1])
    export_key(home, tmp_path / "given.key")
    verdict = verify(marked, other, Blind(), keys=[tmp_path / "given.key"])
    assert verdict.mark.found
    assert not verdict.own
    assert verdict.session is None
    assert verdict.session_text == "01234567"
    assert verdict.keys == 2


def test_no_mark_proves_nothing(plain, home, tmp_path):
    verdict = verify(plain, home, Blind())
    assert not verdict.mark.found
    assert verdict.session_text is None
    shown, missing = words(verdict)
    assert not shown
    assert "proves nothing" in missing[0]
    nobody = verify(plain, tmp_path / "nobody", Blind())
    assert nobody.keys == 0
    assert "no key" in words(nobody)[1][0]
    assert not (tmp_path / "nobody").exists()  # looking makes no key


def test_credentials_are_said_in_plain_words(marked, home):
    verdict = verify(marked, home, Blind())
    claim = CredentialClaim("fedcba9876543210", "personacam 1", ({"name": "kofi"},), "2026-01-31T12:00:00Z")
    broken = replace(verdict, credentials=Credentials("invalid", ("picture or sound were changed after signing",)))
    assert any("do not hold: picture" in line for line in words(broken)[1])
    foreign = replace(verdict, credentials=Credentials("untrusted", signer="someone", ai=True, claim=claim))
    shown, missing = words(foreign)
    assert any("nothing here vouches" in line for line in shown)
    assert any("different sessions" in line for line in missing)
    without = replace(verdict, credentials=None)
    assert without.as_dict()["c2pa"]["state"] == "unknown"


def test_a_picture_and_an_address_can_be_looked_at(tmp_path, home):
    for pixels in pictures(1):
        cv2.imwrite(str(tmp_path / "a b.png"), pixels)
    path = local_path((tmp_path / "a b.png").as_uri())
    assert path == tmp_path / "a b.png"
    assert not verify(path, home, Blind()).mark.found


@pytest.mark.parametrize("address", ["https://example.org/a.mp4", "file://elsewhere/a.mp4"])
def test_other_computers_are_refused(address):
    with pytest.raises(SettingsError, match="computer"):
        local_path(address)


def test_what_is_no_video_is_told(tmp_path, home):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for name, error in (
        ("none.mp4", SourceNotFoundError), ("", SourceNotFoundError), ("text.mp4", SourceError),
        ("broken.png", SourceFormatError),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            verify(tmp_path / name, home, Blind())
        assert caught.value.hint


def test_a_long_file_is_looked_at_in_pieces(plain, monkeypatch):
    monkeypatch.setattr(verify_video, "PIECE_S", 0.3)
    assert verify_video._starts(plain, 0.2) == [0.0]
    starts = verify_video._starts(plain, 0.9)
    assert starts == pytest.approx([0.0, 0.45, 0.9], abs=0.02)
    shares = []
    pieces = list(verify_video.gather(plain, 0.9, Blind(), shares.append))
    assert [piece.frames for piece in pieces] == [3, 3, 3]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_real_run_is_recognised(tmp_path):
    """The shipped pipeline, its recorder and the verb: one session's number all the way."""
    out = tmp_path / "out.mp4"
    result = run_session(Settings(source="demo", sink=(str(out),), frames=12), say=lambda _: None)
    detector = MeshDetector.load()
    try:
        verdict = verify(out, data_folder(), detector)
    finally:
        detector.close()
    assert verdict.mark.found
    assert verdict.session_text == result.report["session"]
    assert verdict.recorded.session == result.report["session"]
    assert not verdict.mark.mirrored


def test_the_verbs(marked, tmp_path, monkeypatch):
    monkeypatch.setattr(MeshDetector, "load", classmethod(lambda cls: Blind()))
    home = tmp_path / "home"
    monkeypatch.setattr("realtime.session.data_folder", lambda: home)
    runner = CliRunner()
    done = runner.invoke(app, ["verify", str(marked), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["mark"]["found"]
    assert "FOUND, session 0123456789abcdef" in done.stderr
    bad = runner.invoke(app, ["verify", str(tmp_path / "none.mp4"), "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.stdout.splitlines()[-1])["error"]["hint"]
    key = runner.invoke(app, ["mark", "export", str(tmp_path / "a.key"), "--json"])
    shown = runner.invoke(app, ["mark", "show", "--json"])
    name = json.loads(shown.stdout.splitlines()[-1])["key"]
    assert json.loads(key.stdout.splitlines()[-1])["key"] == name
    assert own_key(home).hex() not in key.output + shown.output
