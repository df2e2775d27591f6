"""Film mode from file to file, with a persona that paints every face blue."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from typer.testing import CliRunner

from engines.errors import ConsentScopeError, SettingsError, SinkError, SourceFormatError
from realtime import render_segment, render_worker
from realtime.cli import app
from realtime.config import Settings
from realtime.render import FilmWishes, best_tier, render
from realtime.render_faces import FaceChoice
from realtime.render_pool import InProcess
from realtime.session_record import FOLDER, SessionStore
from tests.calibration.consent_world import enrolled
from tests.onnx_models import build, manifest, value, write
from tests.realtime.film_world import SquareDetector, tracks, write_film

SIDE = 16
BLUE = (230, 40, 30)  # B, G, R


def painting() -> bytes:
    """swap = blue, mask = everywhere, code = the face's mean, so that the input is used."""
    colour = (np.array(BLUE[::-1], np.float32) / 255).reshape(1, 3, 1, 1)
    nodes = [
        helper.make_node("Mul", ["face", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "colour"], ["swap"]),
        helper.make_node("Slice", ["nothing", "zero", "one", "one"], ["plane"]),
        helper.make_node("Add", ["plane", "whole"], ["mask"]),
        helper.make_node("GlobalAveragePool", ["face"], ["mean"]),
        helper.make_node("Reshape", ["mean", "flat"], ["code"]),
    ]
    weights = {"none": np.zeros(1, np.float32), "colour": colour, "whole": np.ones(1, np.float32),
               "zero": np.array([0]), "one": np.array([1]), "flat": np.array([1, 3])}  # fmt: skip
    outputs = [value("swap", 1, 3, SIDE, SIDE), value("mask", 1, 1, SIDE, SIDE), value("code", 1, 3)]
    return bytes(build(nodes, [value("face", 1, 3, SIDE, SIDE)], outputs, weights).SerializeToString())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for module in ("session", "render"):
        monkeypatch.setattr(f"realtime.{module}.data_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(render_worker, "_detector", lambda task: SquareDetector())
    return tmp_path


@pytest.fixture
def persona(tmp_path: Path) -> Path:
    fields = {"crop_size": SIDE, "output_size": SIDE, "code_size": 3}
    path = tmp_path / "blue.persona"
    from engines.persona import write_persona

    write_persona(path, manifest(name="blue", **fields), swap_onnx=painting(), report={})
    return path


def options(source: Path, persona: Path, **changes) -> Settings:
    fields = {"source": str(source), "persona": str(persona), "label": False, "feather": 1, "erode": 0}
    return Settings(**(fields | {"colour_strength": 0.0, "credentials": False} | changes))


def make(source: Path, persona: Path, out: str = "out.mp4", executor=InProcess, stop=None, said=None, **changes):
    own = {k: changes.pop(k) for k in ("segment_s", "force", "face", "crf") if k in changes}
    wishes = FilmWishes(Path(out).absolute(), **({"segment_s": 0.5, "crf": 8} | own))
    lines = said if said is not None else []
    return render(options(source, persona, **changes), wishes, executor, say=lines.append, stop=stop)


def blue_share(picture: np.ndarray) -> float:
    return float((np.abs(picture.astype(int) - BLUE).max(axis=2) < 60).mean())


@pytest.mark.parametrize(("suffix", "turned"), [(".mp4", 0), (".mp4", 90), (".mov", 180), (".mkv", 270)])
def test_every_picture_comes_out_at_its_time_the_right_way_up_with_its_sound(persona, suffix, turned):
    source = write_film(Path("in.mp4"), 30, start=0 if suffix == ".mkv" else 640, turned=turned)
    report = make(source, persona, f"out{suffix}")
    assert report["finished"]
    assert report["frames"] == {"total": 30, "sent": 30, "swapped": 30, "policy": 0, "damaged": 0}
    before, after = tracks(source), tracks(Path(f"out{suffix}"))
    if suffix == ".mkv":  # its clock has milliseconds, and begins where the sound begins
        begins = [float(min(t for t, _ in both["sound"])) for both in (before, after)]
        times = [np.array(both["times"], float) - begin for both, begin in zip((before, after), begins, strict=True)]
        np.testing.assert_allclose(times[1], times[0], atol=1.1e-3)
    else:
        assert after["times"] == before["times"]
        assert after["turned"] == before["turned"]
    assert [data for _, data in after["sound"]] == [data for _, data in before["sound"]]
    quarters = 0 if suffix == ".mkv" else -turned // 90
    upright = [np.rot90(p, turned // 90) for p in before["pictures"]]
    for old, new in zip(upright[::7], after["pictures"][::7], strict=True):
        same = np.rot90(old, quarters)
        assert same.shape == new.shape
        assert blue_share(new) > 0.04
        assert blue_share(same) == 0
        outside = same.max(axis=2) < 60
        outside[:] &= np.abs(new.astype(int) - same).max(axis=2) < 90
        assert np.abs(new.astype(int) - same)[outside].mean() < 12
    assert not Path(f"out{suffix}.render").exists()


class Apart(InProcess):
    """Every segment by a worker that begins afresh, in the wrong order: what several machines do."""

    workers = 9

    def run(self, tasks, heard, stop):
        assert all(len(task.segments) == 1 for task in tasks)
        super().run(list(reversed(tasks)), heard, stop)


def test_no_seam_shows_where_workers_take_over(persona, monkeypatch):
    monkeypatch.setattr("realtime.run_files.new_session_id", lambda: 7 << 40)  # the same invisible mark in both
    source = write_film(Path("in.mp4"), 60)
    changes = {"colour_strength": 1.0, "policy": "hold"}
    make(source, persona, "one.mp4", segment_s=60, crf=0, **changes)
    make(source, persona, "many.mp4", Apart, crf=0, **changes)
    one, many = (tracks(Path(name)) for name in ("one.mp4", "many.mp4"))
    assert one["times"] == many["times"]
    worst = [np.abs(a.astype(int) - b).max() for a, b in zip(one["pictures"], many["pictures"], strict=True)]
    assert max(worst) <= 4


def stopping(after: int):
    """An executor that is interrupted when so many segments are finished."""

    class Stopping(InProcess):
        def run(self, tasks, heard, stop):
            left = [after]

            def listen(progress):
                heard(progress)
                left[0] -= progress.segment is not None
                if left[0] <= 0:
                    stop.set()

            super().run(tasks, listen, stop)

    return Stopping


def test_what_is_finished_stays_finished(persona, home):
    source = write_film(Path("in.mp4"), 60)
    first = make(source, persona, executor=stopping(2), stop=threading.Event())
    session = json.loads(Path("out.mp4.render/session.json").read_text())["session"]
    assert not first["finished"]
    assert first["segments"] == {"all": 5, "finished": 2, "made_now": 2}
    assert not Path("out.mp4").exists()
    work = Path("out.mp4.render")
    (work / "00003.mp4.999.part").write_bytes(b"a killed process left this")
    (work / "00001.json").unlink()  # killed between a segment and what became of it
    said: list[str] = []
    second = make(source, persona, said=said)
    assert second["finished"]
    assert second["resumed"]
    assert second["segments"] == {"all": 5, "finished": 5, "made_now": 4}
    assert second["frames"]["sent"] == 60
    assert any("1 of 5" in line for line in said)
    assert len(tracks(Path("out.mp4"))["times"]) == 60
    assert not work.exists()
    kept = SessionStore(home / "home" / FOLDER).find(int(session, 16))
    assert kept is not None, "one session, however often it was interrupted"
    assert [file.name for file in kept.recordings] == ["out.mp4"]
    assert kept.recordings[0].sha256 == hashlib.sha256(Path("out.mp4").read_bytes()).hexdigest()
    assert kept.swapped == 60


def test_another_film_is_not_gone_on_with(persona):
    source = write_film(Path("in.mp4"), 60)
    make(source, persona, executor=stopping(1), stop=threading.Event())
    with pytest.raises(SettingsError, match="other settings") as caught:
        make(source, persona, policy="card")
    assert "--force" in caught.value.hint
    report = make(source, persona, policy="card", force=True)
    assert report["finished"]
    assert report["segments"]["made_now"] == 5


def test_a_film_that_is_there_is_not_replaced_unless_it_is_asked_for(persona):
    source = write_film(Path("in.mp4"), 10)
    out = Path("out.mp4")
    out.write_bytes(b"mine")
    with pytest.raises(SettingsError, match="already"):
        make(source, persona)
    assert out.read_bytes() == b"mine"
    make(source, persona, force=True)
    assert len(tracks(out)["times"]) == 10
    with pytest.raises(SettingsError, match="both"):
        make(source, persona, "in.mp4", force=True)


def test_pictures_without_the_face_are_covered_by_the_policy(persona, monkeypatch):
    class Away(SquareDetector):
        def search(self, frame):
            return None if 10 <= frame.index < 20 else super().search(frame)

    monkeypatch.setattr(render_worker, "_detector", lambda task: Away())
    source = write_film(Path("in.mp4"), 30)
    report = make(source, persona)
    assert report["frames"]["policy"] == 10
    assert report["policy_reasons"] == {"no_face": 10}
    pictures = tracks(Path("out.mp4"))["pictures"]
    assert all((pictures[i].max() < 150) for i in range(11, 19)), "the bright face shows"
    report = make(source, persona, "card.mp4", policy="card")
    assert report["policy"] == "card"
    said: list[str] = []
    make(source, persona, "open.mp4", policy="passthrough", said=said)
    assert any("WHO WAS FILMED" in line for line in said)
    assert tracks(Path("open.mp4"))["pictures"][15].max() > 150


def test_a_full_disk_leaves_what_is_finished_and_no_film(persona, monkeypatch):
    source = write_film(Path("in.mp4"), 40)
    real = render_segment.SegmentWriter.write

    def full(self, pixels, ordinal):
        if ordinal == 20:
            self.abandon()
            raise render_segment.disk_error(self.path, OSError(errno.ENOSPC, "no space"))
        real(self, pixels, ordinal)

    with monkeypatch.context() as patched:
        patched.setattr(render_segment.SegmentWriter, "write", full)
        with pytest.raises(SinkError, match="full") as caught:
            make(source, persona)
    assert "goes on" in caught.value.hint
    assert not Path("out.mp4").exists()
    assert not list(Path("out.mp4.render").glob("*.part"))
    report = make(source, persona)
    assert report["resumed"]
    assert report["frames"]["sent"] == 40
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(SinkError, match="needs"):
        make(source, persona, "other.mp4")


def test_sound_that_the_film_cannot_hold_is_said_before_anything_is_rendered(persona):
    source = write_film(Path("in.mkv"), 10, sound="libopus")
    with pytest.raises(SinkError, match="opus") as caught:
        make(source, persona, "out.mov")
    assert ".mkv" in caught.value.hint
    assert make(source, persona, "out.mkv")["finished"]
    silent = write_film(Path("silent.mp4"), 10, sound=None)
    assert make(silent, persona, "quiet.mp4")["finished"]


@pytest.mark.parametrize(
    ("out", "changes", "words"),
    [
        ("out.avi", {}, "avi"),
        ("out.mp4", {"crf": 99}, "crf"),
        ("out.mp4", {"segment_s": 0.0}, "segments"),
        ("none/out.mp4", {}, "no folder"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(persona, out, changes, words):
    source = write_film(Path("in.mp4"), 3)
    with pytest.raises((SettingsError, SinkError), match=words):
        make(source, persona, out, **changes)
    Path("text.mp4").write_text("no film")
    with pytest.raises(SourceFormatError):
        make(Path("text.mp4"), persona, "x.mp4")


def test_a_persons_consent_must_cover_film(home, tmp_path, monkeypatch):
    """Asked once, before anything is read; the record of the tests covers streams and recordings."""
    world = enrolled(tmp_path / "world")
    monkeypatch.setattr("realtime.admission.Gatekeeper", lambda home, warn: world.gate)
    source = write_film(Path("in.mp4"), 3)
    with pytest.raises(ConsentScopeError, match="film"):
        make(source, world.standing)
    assert not Path("out.mp4.render").exists()


def test_the_largest_tier_is_taken(tmp_path, monkeypatch):
    for folder, tier in (("", "tiny"), ("small", "small"), ("base", "base")):
        (tmp_path / "home" / "personas" / folder).mkdir(parents=True, exist_ok=True)
        from engines.persona import write_persona
        from tests.onnx_models import swap_model

        path = tmp_path / "home" / "personas" / folder / "zoe.persona"
        write_persona(path, manifest(name="zoe", tier=tier), swap_onnx=swap_model().SerializeToString(), report={})
    assert best_tier("zoe", None).parent.name == "base"
    assert best_tier("zoe", "small").parent.name == "small"
    single = write(tmp_path / "own.persona")
    assert best_tier(str(single), None) == single


def test_the_command_line(persona):
    source = write_film(Path("in.mp4"), 12)
    call = ["render", str(source), "out.mp4", "-p", str(persona), "--segment-s", "0.5"]
    result = CliRunner().invoke(app, [*call, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["finished"]
    assert report["frames"]["swapped"] == 12
    again = CliRunner().invoke(app, call)
    assert again.exit_code == 1
    assert "--force" in again.output
    assert CliRunner().invoke(app, ["render", "none.mp4", "x.mp4"]).exit_code == 1
    wrong = CliRunner().invoke(app, [*call[:2], "y.mp4", "--face", "nose"])
    assert wrong.exit_code == 1
    assert "largest" in wrong.output


def test_an_interrupted_command_says_how_to_go_on(persona, monkeypatch):
    source = write_film(Path("in.mp4"), 40)
    monkeypatch.setattr("realtime.cli_render._executor", lambda jobs, cluster: stopping(1)())
    result = CliRunner().invoke(app, ["render", str(source), "o.mp4", "-p", str(persona), "--segment-s", "0.5"])
    assert result.exit_code == 130
    assert "the same command goes on" in result.output


def test_the_chosen_face_is_looked_for_once_and_given_to_the_workers(persona, monkeypatch):
    given = []
    monkeypatch.setattr(render_worker, "_detector", lambda task: given.append(task.guide) or SquareDetector())
    looked = []

    class Blaze:
        def find(self, pixels, *, tiles=False):
            looked.append(1)
            from engines.blazeface import Candidate

            found = SquareDetector().search(type("F", (), {"pixels": pixels, "index": 0})())
            return [] if found is None else [Candidate(found.box, np.zeros((6, 2), np.float32), 0.9)]

        def close(self):
            pass

    monkeypatch.setattr("realtime.render.load_blazeface", Blaze)
    monkeypatch.setattr("realtime.render.load_facemesh", Blaze)
    monkeypatch.setattr("realtime.render._embedder", lambda: None)
    source = write_film(Path("in.mp4"), 30)
    make(source, persona, executor=stopping(1), stop=threading.Event(), face=FaceChoice("largest"))
    count = len(looked)
    assert 4 <= count <= 12, "some pictures a second are looked at"
    make(source, persona, face=FaceChoice("largest"))
    assert len(looked) == count
    assert given[0] == given[1]
    assert given[0].near(15)
