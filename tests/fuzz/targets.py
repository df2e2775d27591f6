"""The readers of this program, each with files that it accepts and a way to use what it has read.

A *case* is what a stranger sends: a few files by name. ``read`` gives them to the reader in a folder of their own. It
may return, or raise PersonacamError; everything else is a finding, as is what ``watch`` sees. What a reader accepted is
used as the program uses it, because a network that was let in must also run or fail with an error.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.fuzz import media, sets
from tests.fuzz.sets import Case


@dataclass(frozen=True)
class Target:
    """One reader."""

    seeds: Callable[[], list[Case]]
    """Cases that it accepts, and some that are something else."""
    read: Callable[[Path], None]
    """Raises PersonacamError for what it refuses."""
    fix: Callable[[dict[str, bytes]], None] = lambda _: None
    """Put the checksums right after a mutation, in place."""
    seconds: float = 5.0
    """Of processor time that a case may take."""


def mutated(target: Target, rng: random.Random, case: Case) -> dict[str, bytes]:
    """A few mutations of one case."""
    files = dict(case)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        name = rng.choice(list(files))
        files[name] = media.mutate(rng, name, files[name])
    if rng.random() < 0.9:
        try:
            target.fix(files)
        except Exception:  # there is nothing left to put right
            return files
    return files


def pack(case: Case) -> bytes:
    """A case as one file."""
    return media.write_zip(dict(case), 8)


def unpack(data: bytes) -> dict[str, bytes]:
    """What ``pack`` packed."""
    return media.read_zip(data)


# ---- networks and personas -------------------------------------------------------------------------------------------


def _conv_model() -> bytes:
    """A persona's network of a few real layers, as the exporters write them."""
    from onnx import helper

    from tests.onnx_models import C, build, value

    rng = np.random.default_rng(0)
    small = {"a": (8, 3, 3, 3), "b": (C, 8 * 64), "c": (C, 16 * 64), "d": (16, 4 * 16, 3, 3)}
    weights = {n: (rng.standard_normal(s) * 0.1).astype(np.float32) for n, s in small.items()}
    weights["b"] = weights["b"].T.copy()
    weights |= {"shape": np.array([1, 16, 8, 8], np.int64), "two": np.array([3, 1], np.int64)}
    weights["d"] = (rng.standard_normal((64, 16, 3, 3)) * 0.1).astype(np.float32)
    weights["e"] = (rng.standard_normal((16, 16, 3, 3)) * 0.1).astype(np.float32)
    make = helper.make_node
    return bytes(build(
        [
            make("Conv", ["face", "a"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1]),
            make("LeakyRelu", ["h"], ["g"], alpha=0.1), make("Flatten", ["g"], ["flat"]),
            make("MatMul", ["flat", "b"], ["code"]), make("MatMul", ["code", "c"], ["grid"]),
            make("Reshape", ["grid", "shape"], ["map"]), make("Conv", ["map", "d"], ["wide"], pads=[1, 1, 1, 1]),
            make("DepthToSpace", ["wide"], ["up"], blocksize=2), make("Conv", ["up", "e"], ["all"], pads=[1, 1, 1, 1]),
            make("DepthToSpace", ["all"], ["four"], blocksize=2),
            make("Split", ["four", "two"], ["swap", "logit"], axis=1), make("Sigmoid", ["logit"], ["mask"]),
        ],
        [value("face", 1, 3, 16, 16)],
        [value("swap", 1, 3, 32, 32), value("mask", 1, 1, 32, 32), value("code", 1, C)],
        weights,
    ).SerializeToString())  # fmt: skip


def _networks() -> list[Case]:
    from tests.onnx_models import affine, swap_model

    return [{"a.onnx": swap_model().SerializeToString()}, {"a.onnx": _conv_model()}, {"a.onnx": affine()}]


def _personas() -> list[Case]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tests.onnx_models import write

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.persona")
        plain = write(path).read_bytes()
        signed = write(path, key=Ed25519PrivateKey.from_private_bytes(bytes(range(32)))).read_bytes()
        layers = write(path, swap_onnx=_conv_model(), preview=None, decoder=None).read_bytes()
    return [{"a.persona": data} for data in (plain, signed, layers)]


def _read_network(folder: Path) -> None:
    from engines.onnx_guard import check_onnx

    data = (folder / "a.onnx").read_bytes()
    check_onnx(data)
    _run_both(data)


def _run_both(data: bytes) -> None:
    """In each runtime: it opens and runs, or raises RuntimeFailure."""
    from engines.errors import RuntimeFailure
    from engines.runtimes import DEFAULT_ORDER, open_runtime

    for name in DEFAULT_ORDER:
        try:
            runtime = open_runtime(data, prefer=[name])
            rng = np.random.default_rng(0)
            runtime.run({n: rng.random(shape, np.float32) for n, shape in runtime.inputs.items()})
        except RuntimeFailure:
            continue
        runtime.close()


def _read_persona(folder: Path) -> None:
    from engines.errors import RuntimeFailure
    from engines.persona import read_persona
    from engines.runtimes import open_runtime
    from realtime.swap import PlanarRuntime

    persona = read_persona(folder / "a.persona")
    for name in ("onnxruntime", "openvino"):
        try:
            live = PlanarRuntime(persona.manifest, open_runtime(persona.swap_onnx, prefer=[name]))
            live.swap(np.full((live.crop_size, live.crop_size, 3), 90, np.uint8), None)
        except RuntimeFailure:
            continue
        live.close()


# ---- settings --------------------------------------------------------------------------------------------------------

_PROFILE = """\
source = "demo"
persona = "kofi"
sink = ["out.mp4", "null"]
policy = "hold"
hold_s = 2.5
card = "card.png"
label_position = "top-left"
width = 640
height = 480
fps = 25.0
pace = "on"
detector = "mesh"
threads = 2
colour_strength = 0.25
erode = 2
deadline_ms = 500
loop = true
frames = 100
"""


def _read_profile(folder: Path) -> None:
    from realtime.config import resolve

    settings = resolve({"fps": 30.0}, folder / "a.toml")
    settings.model_dump_json()


def _wearers() -> list[Case]:
    fields = {"schema_version": 1, "encoder_sha256": "0" * 64, "gain": [1.0, 1.1, 0.9], "shift": [0.0, -0.5, 0.25]}
    return [{"wearer.json": json.dumps(fields).encode()}]


def _read_wearer(folder: Path) -> None:
    from engines.wearer import WearerCalibration

    wearer = WearerCalibration.load(folder / "wearer.json")
    if not np.isfinite(wearer.apply(np.zeros(wearer.gain.shape, np.float32))).all():
        raise AssertionError("a calibration that is not finite was let in")


# ---- weights ---------------------------------------------------------------------------------------------------------


def _sign_pairs(files: dict[str, bytes]) -> None:
    """Every STEM.json names the sha256 of its weights."""
    for name in [n for n in files if n.endswith(".json") and n[:-5] + ".safetensors" in files]:
        meta = json.loads(files[name])
        meta["sha256"] = hashlib.sha256(files[name[:-5] + ".safetensors"]).hexdigest()
        files[name] = json.dumps(meta).encode()


@cache
def _bundle() -> dict[str, bytes]:
    """Universal networks of a toy's sizes with everything that ships beside them."""
    import torch

    from engines.film import FilmDecoder
    from engines.network import NetworkConfig, build_encoder
    from engines.run_folder import Universal
    from engines.universal_bundle import WearerSamples, save_bundle
    from engines.universal_networks import People

    sizes = NetworkConfig("test", 16, 16, 6, 0, (4,), (False,), 4, 6, (4,))
    trunk = FilmDecoder(sizes, seed=1)
    rng = np.random.default_rng(0)
    vectors = torch.from_numpy(rng.standard_normal((2, trunk.film_size)).astype(np.float32))
    universal = Universal(build_encoder(sizes, seed=0), trunk, People(vectors, ("ann", "bob"), {}))
    crops = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    samples = WearerSamples(crops, None, np.zeros(6, np.float32), np.ones(6, np.float32))
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(Path(folder), universal, samples, {"command": "fuzz"})
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _bundles() -> list[Case]:
    return [_bundle()]


def _sign_bundle(files: dict[str, bytes]) -> None:
    """The whole chain: each pair, and who was trained with whom."""
    _sign_pairs(files)
    facts: dict[str, object] = {}
    for stem in ("encoder", "trunk", "people", "wearers"):
        meta = json.loads(files[f"{stem}.json"]) | facts
        files[f"{stem}.json"] = json.dumps(meta).encode()
        facts[f"{stem}_sha256"] = meta["sha256"]


def _read_bundle(folder: Path) -> None:
    from engines.universal_bundle import load_bundle, sample_codes

    sample_codes(load_bundle(folder))


def _checkpoints() -> list[Case]:
    from engines.network import NetworkConfig, build_decoder

    files = _bundle()
    from engines import checkpoint

    sizes = NetworkConfig("test", 16, 16, 6, 0, (4,), (False,), 4, 6, (4,))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_decoder(Path(folder, "decoder"), build_decoder(sizes, seed=2), {"persona": "ann"})
        decoder = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    encoder = {name: data for name, data in files.items() if name.startswith("encoder")}
    people = {name: data for name, data in files.items() if name.startswith("people")}
    return [encoder, decoder, people]


def _read_checkpoint(folder: Path) -> None:
    from engines import checkpoint
    from engines.universal_networks import load_people

    if list(folder.glob("encoder*")):
        checkpoint.load_encoder(folder / "encoder")
    elif list(folder.glob("people*")):
        load_people(folder / "people")
    else:
        checkpoint.load_decoder(folder / "decoder")


# ---- the folder of plans ---------------------------------------------------------------------------------------------


def _key() -> object:
    from engines.cache import PlanKey

    return PlanKey("0" * 64, "card", "9.0", "1", "tensorrt", "10", "fp16", "x")


def _plans() -> list[Case]:
    from engines.cache import PlanCache

    with tempfile.TemporaryDirectory() as folder:
        path = PlanCache(Path(folder)).put(_key(), b"a plan" * 20, {"precision": "fp16"})  # type: ignore[arg-type]
        return [{path.name: path.read_bytes()}]


def _read_plan(folder: Path) -> None:
    from engines.cache import PlanCache

    plans = PlanCache(folder, say=lambda _: None)
    plans.entries()
    plans.find(_key())  # type: ignore[arg-type]


TARGETS: Mapping[str, Target] = {
    "persona": Target(_personas, _read_persona),
    "onnx": Target(_networks, _read_network),
    "profile": Target(lambda: [{"a.toml": _PROFILE.encode()}], _read_profile),
    "wearer": Target(_wearers, _read_wearer),
    "checkpoint": Target(_checkpoints, _read_checkpoint, _sign_pairs),
    "bundle": Target(_bundles, _read_bundle, _sign_bundle),
    "faceset": Target(sets.facesets, sets.read_faceset, sets.sign_faceset),
    "picture": Target(sets.pictures, sets.read_picture),
    "clip": Target(sets.clips, sets.read_clip),
    "plan": Target(_plans, _read_plan),
}


def fresh(name: str, seed: int, number: int) -> dict[str, bytes]:
    """Case ``number`` of a run with ``seed``: always the same."""
    target = TARGETS[name]
    rng = random.Random(f"{name} {seed} {number}")
    return mutated(target, rng, rng.choice(target.seeds() if number else target.seeds()[:1]))


__all__ = ["TARGETS", "Case", "Target", "fresh", "mutated", "pack", "unpack"]
