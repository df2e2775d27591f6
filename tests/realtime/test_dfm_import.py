"""A DeepFaceLive model becomes a persona that is worn like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.consent import sign_record
from calibration.consent_gates import Gatekeeper
from engines.crop_square import whole_face
from engines.errors import (
    ConsentExpiredError,
    ConsentFootageError,
    ConsentMissingError,
    DataError,
    PersonaFormatError,
    RecordTamperedError,
)
from engines.geometry import compose
from engines.persona import read_persona
from engines.runtimes import open_runtime
from engines.types import AlignedFace
from realtime.blend import BlendConfig, Blender
from realtime.cli import app
from realtime.dfm_import import DfmWishes, bring_in_dfm
from realtime.engine_switch import EngineSwitch
from realtime.pipeline import _own_square
from realtime.swap import PlanarRuntime, Swapper
from tests.calibration.consent_world import ADA, EMPTY_LIST, NAME, NOW, record_of
from tests.dfm_models import CHANNELS, GAINS, R, amp, plain


@pytest.fixture
def gate(tmp_path: Path) -> Gatekeeper:
    return Gatekeeper(tmp_path / "home", now=lambda: NOW, fetch=lambda *_: EMPTY_LIST)


def model(tmp_path: Path, what=plain, **options) -> Path:
    path = tmp_path / "ada.dfm"
    path.write_bytes(what(**options).SerializeToString())
    return path


def consent(tmp_path: Path, gate: Gatekeeper, file: Path, **changes) -> Path:
    path = tmp_path / "ada.consent.json"
    path.write_bytes(sign_record(record_of(file, gate.store.key(), **changes), ADA))
    return path


def brought(tmp_path: Path, gate: Gatekeeper, what=plain, wishes=DfmWishes(), **options):
    file = model(tmp_path, what, **options)
    path, _, _ = bring_in_dfm(gate, file, consent(tmp_path, gate, file), wishes)
    return gate.run(path, [("recording",)])


def test_it_is_a_persona_of_a_person_that_names_the_file_and_the_record(tmp_path, gate):
    file = model(tmp_path)
    record = consent(tmp_path, gate, file)
    path, made, _ = bring_in_dfm(gate, file, record, DfmWishes(coverage=2.4))
    persona = gate.run(path, [("recording",)])
    manifest = persona.manifest
    assert path == gate.store.home / "personas" / f"{NAME}.persona"
    assert (manifest.kind, manifest.name, manifest.crop_size, manifest.output_size) == ("person", NAME, R, R)
    assert manifest.crop.side_dm == whole_face(2.4).side_dm
    assert manifest.morph is None
    assert manifest.chain is not None
    assert manifest.chain.faceset is None
    assert persona.valid_until is not None
    assert persona.report["imported"]["repaired"] == list(made.repaired)
    assert [entry.event for entry in gate.store.log.entries()] == ["export", "run"]


def test_the_record_may_have_been_brought_in_before(tmp_path, gate):
    file = model(tmp_path)
    with pytest.raises(ConsentMissingError, match=r"ada\.dfm"):
        bring_in_dfm(gate, file, None, DfmWishes())
    gate.store.add(consent(tmp_path, gate, file).read_bytes())
    assert bring_in_dfm(gate, file, None, DfmWishes())[0].is_file()


def test_without_valid_consent_nothing_is_imported(tmp_path, gate):
    file = model(tmp_path)
    other = tmp_path / "other.dfm"
    other.write_bytes(amp().SerializeToString())
    target = gate.store.home / "personas" / f"{NAME}.persona"
    with pytest.raises(ConsentFootageError):
        bring_in_dfm(gate, file, consent(tmp_path, gate, other), DfmWishes())
    over = {"valid_from": "2026-02-01T00:00:00Z", "valid_until": "2026-03-01T00:00:00Z"}
    with pytest.raises(ConsentExpiredError):
        bring_in_dfm(gate, file, consent(tmp_path, gate, file, **over), DfmWishes())
    forged = consent(tmp_path, gate, file)
    forged.write_bytes(forged.read_bytes().replace(b"Ada Example", b"Eve Example"))
    with pytest.raises(RecordTamperedError):
        bring_in_dfm(gate, file, forged, DfmWishes())
    assert not target.exists()


def test_a_file_that_is_refused_leaves_nothing(tmp_path, gate):
    file = tmp_path / "ada.dfm"
    file.write_bytes(b"no model at all")
    with pytest.raises(PersonaFormatError, match="refused"):
        bring_in_dfm(gate, file, consent(tmp_path, gate, file), DfmWishes())
    assert not list((gate.store.home / "personas").glob("*"))


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_bytes_go_through_the_swapper_with_their_colours_in_place(tmp_path, gate, runtime):
    persona = brought(tmp_path, gate)
    swapper = Swapper(persona, open_runtime(persona.swap_onnx, prefer=[runtime]))
    crop = np.zeros((R, R, 3), np.uint8)
    crop[:] = (200, 100, 50)  # B, G, R
    swap = swapper.swap(AlignedFace(0, crop, np.array([[1.0, 0, 0], [0, 1.0, 0]])))
    np.testing.assert_allclose(swap.pixels[5, 5], np.array([200, 100, 50]) * GAINS, atol=1)
    assert swap.mask[5, 5] == 50
    with pytest.raises(DataError, match="no morph"):
        swapper.morph(0.5)


def test_the_morph_is_a_slider_while_it_runs(tmp_path, gate):
    persona = brought(tmp_path, gate, amp, DfmWishes(morph=0.5))
    assert persona.manifest.morph == 0.5
    plain_runtime = PlanarRuntime(persona.manifest, open_runtime(persona.swap_onnx))
    engine = PlanarRuntime(persona.manifest, open_runtime(persona.swap_onnx, prefer=["onnxruntime"]))
    switch = EngineSwitch(plain_runtime, lambda _: engine, say=lambda _: None)
    swapper = Swapper(persona, switch)
    face = AlignedFace(0, np.zeros((R, R, 3), np.uint8), np.array([[1.0, 0, 0], [0, 1.0, 0]]))

    def level() -> float:
        return float(swapper.swap(face).pixels.mean()) / 255

    try:
        assert level() == pytest.approx(0.2 + 0.7 * 0.5, abs=0.003)
        swapper.morph(0.93)
        assert level() == pytest.approx(0.2 + 0.7 * int(CHANNELS * 0.93) / CHANNELS, abs=0.003)
        switch.start()
        assert switch.wait(20)
        assert level() == pytest.approx(0.2 + 0.7 * int(CHANNELS * 0.93) / CHANNELS, abs=0.003)
        assert switch.name == "onnxruntime"
        swapper.morph(0.0)
        assert level() == pytest.approx(0.2, abs=0.003)
        with pytest.raises(DataError, match="morph"):
            swapper.morph(1.5)
    finally:
        switch.close()


def test_it_sees_its_own_square_of_the_head_and_the_core_lies_there(tmp_path, gate):
    persona = brought(tmp_path, gate)
    swapper = Swapper(persona, open_runtime(persona.swap_onnx))
    square = _own_square(swapper)
    assert square is not None
    standard = np.array([[2.0, 0, 100], [0, 2.0, 50]])  # crop pixels -> frame
    own = compose(standard, square)
    assert own[0, 0] == pytest.approx(2.0 * whole_face().side_dm / 2.15)
    wide, narrow = Blender(BlendConfig(), R, swapper.square), Blender(BlendConfig(), R)
    sizes = [sum(len(part) for part in blender._core) for blender in (wide, narrow)]
    assert sizes[0] == pytest.approx(sizes[1] * (2.15 / whole_face().side_dm) ** 2, rel=0.2)


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("realtime.session.data_folder", lambda: tmp_path / "home")
    monkeypatch.setenv("COLUMNS", "200")
    here = Gatekeeper(tmp_path / "home")
    file = model(tmp_path, amp)
    record = consent(tmp_path, here, file, valid_until="2035-01-01T00:00:00Z", revocation=())
    call = ["personas", "import", str(file), "--consent", str(record), "--morph", "0.6", "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["persona"], report["side"], report["morph"]) == (NAME, R, 0.6)
    assert "--morph 0..1" in result.output
    assert read_persona(Path(report["path"]), admit=lambda _: None).manifest.morph == 0.6
    for wrong, words in ((["--morph", "2"], "morph"), (["--coverage", "9"], "coverage"), (["--mask", "x"], "mask")):
        refused = CliRunner().invoke(app, [*call[:-3], *wrong])
        assert refused.exit_code == 1
        assert words in refused.output
