"""Persona files: what was written is read back, and nothing else is read."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from engines.errors import ConsentError, PersonacamError, PersonaError, PersonaFormatError, PersonaNotFoundError
from engines.persona import CodeReference, PersonaStore, read_persona, write_persona
from engines.persona_zip import pack, unpack
from tests.engines.test_onnx_guard import BAD
from tests.onnx_models import C, S, T, manifest, swap_model, write


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "ada.persona")


def rewritten(path: Path, *, rehash: bool = True, **changes: object) -> Path:
    """The file with members replaced (bytes), removed (None) or manifest fields changed (dict ``fields``)."""
    members = unpack(path.read_bytes())
    head = json.loads(members["manifest.json"]) | dict(changes.pop("fields", {}))  # type: ignore[call-overload]
    names = {"onnx": "swap.onnx", "decoder": "decoder.safetensors", "preview": "preview.webp", "report": "report.json"}
    for key, content in changes.items():
        name = names.get(key, key)
        members.pop(name, None)
        if content is not None:
            members[name] = content  # type: ignore[assignment]
    if rehash:
        inner = members.keys() - {"manifest.json", "signature"}
        head["members"] = {n: hashlib.sha256(members[n]).hexdigest() for n in inner}
    members["manifest.json"] = json.dumps(head).encode()
    path.write_bytes(pack(members))
    return path


def test_round_trip(good: Path) -> None:
    persona = read_persona(good)
    assert persona.manifest.model_copy(update={"members": {}}) == manifest()
    assert set(persona.manifest.members) == {"swap.onnx", "decoder.safetensors", "preview.webp", "report.json"}
    assert persona.swap_onnx == swap_model().SerializeToString()
    assert persona.preview == b"RIFF\x04\0\0\0WEBP"
    assert persona.report == {"psnr_db": 21.5, "worst": None}
    assert persona.sha256 == hashlib.sha256(good.read_bytes()).hexdigest()
    assert persona.path == good
    assert persona.signed_by is None


def test_same_input_same_bytes_and_nothing_left_beside(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.persona"), write(tmp_path / "b.persona")
    assert a.read_bytes() == b.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.persona", "b.persona"]


def test_optional_members_may_be_absent(tmp_path: Path) -> None:
    persona = read_persona(write(tmp_path / "a.persona", preview=None, decoder=None))
    assert persona.preview is None
    assert set(persona.manifest.members) == {"swap.onnx", "report.json"}


def test_a_failed_write_keeps_the_old_file(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = good.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(good, preview=None)
    assert good.read_bytes() == before
    assert [p.name for p in good.parent.iterdir()] == ["ada.persona"]


def test_numpy_numbers_in_the_report(tmp_path: Path) -> None:
    report = {"a": np.float32(0.5), "b": np.arange(3), "c": (1, float("inf")), "d": {"e": np.int64(4)}}
    assert read_persona(write(tmp_path / "a.persona", report=report)).report == {
        "a": 0.5, "b": [0, 1, 2], "c": [1, None], "d": {"e": 4},
    }  # fmt: skip


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_every_truncation_is_refused(good: Path) -> None:
    data = good.read_bytes()
    for length in [*range(0, len(data), 37), len(data) - 1]:
        good.write_bytes(data[:length])
        with pytest.raises(PersonaFormatError):
            read_persona(good)


def test_every_flipped_bit_is_refused_or_harmless(good: Path) -> None:
    """Harmless: a bit of the zip that says nothing about the content, such as a time stamp."""
    data, original = good.read_bytes(), read_persona(good)
    rng = np.random.default_rng(1)
    refused = 0
    for position in rng.choice(len(data), 250, replace=False):
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        good.write_bytes(bytes(flipped))
        try:
            persona = read_persona(good)
        except PersonaFormatError:
            refused += 1
            continue
        assert (persona.manifest, persona.swap_onnx, persona.report) == (
            original.manifest, original.swap_onnx, original.report,
        )  # fmt: skip
    assert refused > 200


def test_bytes_before_or_after_are_refused(good: Path) -> None:
    data = good.read_bytes()
    for changed in (b"#!/bin/sh\n" + data, data + b"\0", data + data):
        good.write_bytes(changed)
        with pytest.raises(PersonaFormatError):
            read_persona(good)


@pytest.mark.parametrize("name", ["swap.onnx", "report.json", "decoder.safetensors", "preview.webp"])
def test_a_member_exchanged_after_the_fact(good: Path, name: str) -> None:
    members = unpack(good.read_bytes())
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    good.write_bytes(pack(members))
    with pytest.raises(PersonaFormatError, match=f"{name} was changed"):
        read_persona(good)


@pytest.mark.parametrize("name", ["manifest.json", "swap.onnx", "report.json"])
def test_a_missing_member(good: Path, name: str) -> None:
    members = unpack(good.read_bytes())
    del members[name]
    good.write_bytes(pack(members))
    with pytest.raises(PersonaFormatError, match="has no"):
        read_persona(good)


def test_members_that_the_manifest_does_not_name(good: Path) -> None:
    with pytest.raises(PersonaFormatError, match=r"disagree about 'preview.webp'"):
        read_persona(rewritten(good, rehash=False, preview=None))
    write(good, preview=None)
    with pytest.raises(PersonaFormatError, match=r"disagree about 'preview.webp'"):
        read_persona(rewritten(good, rehash=False, preview=b"RIFF\x04\0\0\0WEBP"))


# ---- contents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "reason"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_networks_that_the_guard_refuses_are_neither_read_nor_written(make, reason: str, good: Path) -> None:
    bad = make().SerializeToString()
    with pytest.raises(PersonaFormatError):
        read_persona(rewritten(good, onnx=bad))
    with pytest.raises(PersonaFormatError):
        write(good, swap_onnx=bad)


@pytest.mark.parametrize("field", ["crop_size", "output_size", "code_size"])
def test_shapes_that_differ_from_the_manifest(good: Path, field: str) -> None:
    with pytest.raises(PersonaFormatError, match="manifest says"):
        read_persona(rewritten(good, fields={field: 64}))


def test_an_output_more_or_a_name_changed(good: Path) -> None:
    model = swap_model()
    model.graph.output.append(model.graph.input[0])
    with pytest.raises(PersonaFormatError):
        write(good, swap_onnx=model.SerializeToString())
    model = swap_model()
    model.graph.output[2].name = model.graph.node[-1].output[0] = "codes"
    with pytest.raises(PersonaFormatError, match="manifest says"):
        write(good, swap_onnx=model.SerializeToString())


def test_pickles_have_no_place(good: Path) -> None:
    import pickle

    data = pickle.dumps({"weights": [1.0]})
    with pytest.raises(PersonaFormatError, match="safetensors"):
        read_persona(rewritten(good, decoder=data))
    with pytest.raises(PersonaFormatError):
        read_persona(rewritten(good, onnx=data))
    with pytest.raises(PersonaFormatError, match="unknown member"):
        pack(unpack(write(good).read_bytes()) | {"weights.pkl": data})


@pytest.mark.parametrize(
    "report",
    [b"", b"[1]", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff{}", b"[" * 100000, b'{"a":' * 100000],
    ids=["empty", "list", "nan", "twice", "not utf-8", "deep list", "deep object"],
)
def test_reports_that_are_no_strict_json(good: Path, report: bytes) -> None:
    with pytest.raises(PersonaFormatError, match=r"report\.json"):
        read_persona(rewritten(good, report=report))


@pytest.mark.parametrize(
    "fields",
    [
        {"schema_version": 0}, {"schema_version": 2}, {"schema_version": "1"}, {"schema_version": True},
        {"name": "../ada"}, {"name": "Ada"}, {"name": ""}, {"name": "a" * 41}, {"name": "ada\n"},
        {"title": "\x1b[2J"}, {"title": "x" * 201}, {"kind": "animal"}, {"encoder_sha256": "0" * 63},
        {"crop_size": "16"}, {"crop_size": 0}, {"crop_size": 16.5}, {"crop_size": 10**9}, {"seed": None}, {"seed": -1},
        {"crop": {"side_dm": 2.4}}, {"crop": {"side_dm": 2.4, "centre_dm": [0.0]}}, {"surprise": 1},
        {"crop": {"side_dm": 2.4, "centre_dm": [0.0, 0.1], "x": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_manifests_that_are_wrong(good: Path, fields: dict) -> None:
    with pytest.raises(PersonaFormatError):
        read_persona(rewritten(good, fields=fields))


def test_a_newer_format_says_what_to_do(good: Path) -> None:
    with pytest.raises(PersonaFormatError) as caught:
        read_persona(rewritten(good, fields={"schema_version": 2}))
    assert caught.value.hint == "update personacam"


# ---- real people, signatures -----------------------------------------------------------------------------------------


def test_real_people_are_refused_with_and_without_a_record(good: Path) -> None:
    for extra in ({}, {"consent.json": b"{}"}):
        with pytest.raises(ConsentError, match="real person") as caught:
            read_persona(rewritten(good, fields={"kind": "person", "seed": None}, **extra))
        assert "invented" in caught.value.hint
    with pytest.raises(ConsentError):
        write_persona(good, manifest(kind="person", seed=None), swap_onnx=swap_model().SerializeToString(), report={})


def test_a_real_person_cannot_pass_as_invented_by_keeping_the_record(good: Path) -> None:
    with pytest.raises(PersonaFormatError, match="consent record"):
        read_persona(rewritten(good, **{"consent.json": b"{}"}))


def test_kind_and_seed_belong_together() -> None:
    with pytest.raises(ValidationError):
        manifest(kind="person", seed=7)


def test_signature(good: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    persona = read_persona(write(good, key=key))
    assert persona.signed_by == key.public_key().public_bytes_raw().hex()
    with pytest.raises(PersonaFormatError, match="does not fit"):
        read_persona(rewritten(good, fields={"title": "Somebody else"}))
    write(good, key=key)
    for damaged in (b"", b"{}", b"[]", b'{"algorithm":"ed25519","public_key":"zz","signature":""}', b"[" * 900):
        with pytest.raises(PersonaFormatError, match="signature"):
            read_persona(rewritten(good, signature=damaged))


def test_only_errors_of_the_tree_escape_from_random_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "x.persona"
    for length in (0, 1, 21, 22, 23, 100, 5000):
        for prefix in (b"", b"PK\x03\x04"):
            path.write_bytes(prefix + rng.bytes(length))
            with pytest.raises(PersonaError):
                read_persona(path)


@pytest.mark.parametrize("mesh_points", [0, 127])
def test_what_the_trainer_exports_is_accepted(tmp_path: Path, small_sizes, mesh_points: int) -> None:
    torch = pytest.importorskip("torch")
    from engines.export import export_swap
    from engines.network import PersonaDecoder, UniversalEncoder
    from engines.runtimes import open_runtime

    torch.manual_seed(0)
    sizes = replace(small_sizes, mesh_points=mesh_points)
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    points = rng.random((16, 127, 2), np.float32) if mesh_points else None
    exported = export_swap(UniversalEncoder(sizes), PersonaDecoder(sizes), crops, points)
    path = tmp_path / "a.persona"
    size = {"crop_size": 32, "output_size": 32, "code_size": sizes.code_size}
    for wrong in ({"mesh_points": 127 - mesh_points, "code_calibration": True}, {"mesh_points": mesh_points}):
        with pytest.raises(PersonaFormatError, match="but the manifest says"):
            write_persona(path, manifest(**size, **wrong), swap_onnx=exported.onnx, report={})
    head = manifest(**size, mesh_points=mesh_points, code_calibration=True)
    write_persona(path, head, swap_onnx=exported.onnx, report={})
    persona = read_persona(path)
    assert (persona.manifest.mesh_points, persona.manifest.code_calibration) == (mesh_points, True)
    feeds = {name: rng.random(shape, np.float32) for name, shape in persona.manifest.network_inputs().items()}
    a = open_runtime(persona.swap_onnx, prefer=["openvino"]).run(feeds)
    b = open_runtime(persona.swap_onnx, prefer=["onnxruntime"]).run(feeds)
    assert list(a) == list(b) == ["swap", "mask", "code"]
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=1e-4)


def test_files_from_before_points_and_calibration_are_read(good: Path) -> None:
    members = unpack(good.read_bytes())
    head = json.loads(members["manifest.json"])
    for later in ("mesh_points", "code_calibration", "code_reference"):
        del head[later]
    members["manifest.json"] = json.dumps(head).encode()
    good.write_bytes(pack(members))
    found = read_persona(good).manifest
    assert (found.mesh_points, found.code_calibration, found.code_reference) == (0, False, None)
    assert found.network_inputs() == {"face": (1, 3, S, S)}


def test_reference_codes_travel_in_the_manifest(tmp_path: Path) -> None:
    reference = CodeReference(mean=tuple(np.linspace(-1, 1, C).tolist()), spread=(0.5,) * C)
    path = tmp_path / "a.persona"
    head = manifest(code_reference=reference)
    write_persona(path, head, swap_onnx=swap_model().SerializeToString(), report={})
    assert read_persona(path).manifest.code_reference == reference


@pytest.mark.parametrize(
    "fields",
    [
        {"mesh_points": 126},
        {"mesh_points": -1},
        {"mesh_points": True},
        {"code_calibration": 1},
        {"code_reference": {"mean": [0.0] * C, "spread": [1.0] * (C - 1)}},
        {"code_reference": {"mean": [0.0] * C, "spread": [0.0] * C}},
        {"code_reference": {"mean": [0.0], "spread": [1.0]}},
        {"code_reference": {"mean": [0.0] * C}},
    ],
)
def test_inputs_and_references_that_make_no_sense_are_refused(good: Path, fields: dict[str, object]) -> None:
    with pytest.raises(PersonaFormatError, match="the manifest is wrong"):
        read_persona(rewritten(good, fields=fields))


# ---- the store -------------------------------------------------------------------------------------------------------


def test_store(tmp_path: Path) -> None:
    shipped, own = tmp_path / "shipped", tmp_path / "own"
    shipped.mkdir()
    own.mkdir()
    for path in (shipped / "vera.persona", shipped / "kofi.persona", own / "vera.persona", own / "zoe.persona"):
        path.write_bytes(b"")
    (own / "notes.txt").write_bytes(b"")
    store = PersonaStore([shipped, own, tmp_path / "missing"])
    assert store.list() == [shipped / "kofi.persona", shipped / "vera.persona", own / "zoe.persona"]
    assert store.find("vera") == shipped / "vera.persona"
    assert store.find(own / "vera.persona") == own / "vera.persona"
    assert store.find(str(own / "vera.persona")) == own / "vera.persona"
    with pytest.raises(PersonaNotFoundError) as caught:
        store.find("vira")
    assert caught.value.hint == "did you mean 'vera'?"
    with pytest.raises(PersonaNotFoundError) as caught:
        store.find("quux")
    assert "kofi, vera, zoe" in caught.value.hint
    for path in (tmp_path / "none.persona", "some/where"):
        with pytest.raises(PersonaNotFoundError, match="no file"):
            store.find(path)
    with pytest.raises(PersonacamError, match="no persona"):
        PersonaStore([]).find("vera")
    with pytest.raises(PersonaNotFoundError):
        read_persona(tmp_path / "none.persona")


def test_a_folder_is_no_persona(tmp_path: Path) -> None:
    (tmp_path / "a.persona").mkdir()
    with pytest.raises(PersonaFormatError, match="cannot be read"):
        read_persona(tmp_path / "a.persona")


def test_fixture_sizes_are_what_the_tests_assume() -> None:
    assert (S, T) == (16, 32)
    assert zipfile.is_zipfile(io.BytesIO(pack({"report.json": b"{}"})))
