"""Weights on disk: NAME.safetensors with NAME.json beside it. Never a pickle.

The JSON is written last and names the sha256 of the weights, so a pair that was torn by a kill, truncated or exchanged
is recognised. Files of older versions pass through the named functions in ``UPGRADES``, one version at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from engines.errors import DataError, SettingsError
from engines.files import read_limited, write_atomic
from engines.network import NetworkConfig, PersonaDecoder, UniversalEncoder

FORMAT = "personacam-weights"
VERSION = 1

MAX_META_BYTES = 16 << 20
MAX_WEIGHTS_BYTES = 2 << 30
MAX_SIZE = 1 << 16
"""Of any width or side in a checkpoint's JSON; what fits the weights is far below."""
MAX_LAYERS = 16
MAX_WEIGHTS = 64 << 20
"""Of a network whose sizes a file names; base has a tenth of it. More memory than this no file takes to be refused."""

Kind = Literal["encoder", "decoder", "trunk", "people", "discriminator", "training", "identity-space", "wearers"]
Meta = dict[str, Any]

UPGRADES: Mapping[int, Callable[[Meta, dict[str, Tensor]], tuple[Meta, dict[str, Tensor]]]] = {}
"""From version v to v + 1: UPGRADES[v](meta, tensors). Empty while there is only version 1."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a pair of files holds."""

    kind: Kind
    tensors: dict[str, Tensor]
    meta: Meta
    """The JSON: format, version, kind, sha256, and what was given to ``save``."""


def save(stem: Path, kind: Kind, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
    """Write STEM.safetensors and STEM.json (in this order, each atomically); returns the JSON's path.

    ``meta`` must be JSON; the keys "format", "version", "kind" and "sha256" are set here.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    # clone(): safetensors refuses tensors that share memory, and channels_last weights are not contiguous
    data = save_bytes({name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    head = {"format": FORMAT, "version": VERSION, "kind": kind, "sha256": digest}
    write_atomic(stem.with_name(stem.name + ".safetensors"), data)
    path = stem.with_name(stem.name + ".json")
    write_atomic(path, json.dumps({**meta, **head}, indent=1).encode())
    return path


def load(stem: Path, kind: Kind) -> Checkpoint:
    """Read a pair. Raises DataError when it is missing, damaged, torn, foreign, of another kind or too new."""
    hint = "restore both files from where they were made, or train again"
    try:
        meta = json.loads(read_limited(stem.with_name(stem.name + ".json"), MAX_META_BYTES))
        data = read_limited(stem.with_name(stem.name + ".safetensors"), MAX_WEIGHTS_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read the weights {stem}: {error}", hint=hint) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("kind") != kind:
        raise DataError(f"{stem}.json does not describe weights of kind {kind!r}", hint=hint)
    if hashlib.sha256(data).hexdigest() != meta.get("sha256"):
        raise DataError(f"{stem}.safetensors is not the file that its JSON describes (sha256 differs)", hint=hint)
    try:
        tensors = load_bytes(data)
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{stem}.safetensors is damaged: {error}", hint=hint) from error
    version = meta.get("version", 0)
    while version != VERSION:
        if not isinstance(version, int) or version not in UPGRADES:
            raise DataError(f"{stem} has version {version!r:.20}, this reads up to {VERSION}", hint="update personacam")
        meta, tensors = UPGRADES[version](meta, tensors)
        version = version + 1
    return Checkpoint(kind, tensors, meta)


def save_encoder(stem: Path, encoder: UniversalEncoder, meta: Mapping[str, Any]) -> Path:
    """Write an encoder with its sizes."""
    return save(stem, "encoder", encoder.state_dict(), {**meta, "network": asdict(encoder.sizes)})


def save_decoder(stem: Path, decoder: PersonaDecoder, meta: Mapping[str, Any]) -> Path:
    """Write a decoder with its sizes. ``meta`` should name the sha256 of the encoder that it belongs to."""
    return save(stem, "decoder", decoder.state_dict(), {**meta, "network": asdict(decoder.sizes)})


def load_encoder(stem: Path) -> tuple[UniversalEncoder, Meta]:
    """The encoder and its JSON. Raises DataError as ``load`` does, and for weights that do not fit the sizes."""
    checkpoint = load(stem, "encoder")
    encoder = UniversalEncoder(sizes_of(checkpoint, stem))
    load_strict(encoder, checkpoint.tensors, str(stem))
    return encoder.eval(), checkpoint.meta


def load_decoder(stem: Path) -> tuple[PersonaDecoder, Meta]:
    """The decoder and its JSON. Raises DataError as ``load`` does, and for weights that do not fit the sizes."""
    checkpoint = load(stem, "decoder")
    decoder = PersonaDecoder(sizes_of(checkpoint, stem))
    load_strict(decoder, checkpoint.tensors, str(stem))
    return decoder.eval(), checkpoint.meta


def load_strict(network: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy weights in; every name and shape must fit and every number be finite, else DataError."""
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if expected != found:
        odd = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        raise DataError(f"{what} does not fit the network: {', '.join(odd[:4])}", hint="use weights of the same family")
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise DataError(f"{what} holds numbers that are not finite", hint="use an earlier checkpoint")
    network.load_state_dict(dict(tensors))


def sizes_of(checkpoint: Checkpoint, stem: Path) -> NetworkConfig:
    """The sizes in a checkpoint's JSON. Fields that came later may be absent: their defaults are what was before them.

    Raises DataError when there are none, or none that make a network.
    """
    network = checkpoint.meta.get("network")
    known = {f.name for f in fields(NetworkConfig)}
    needed = {f.name for f in fields(NetworkConfig) if f.default is MISSING}
    try:
        if not isinstance(network, dict) or not needed <= set(network) <= known:
            raise ValueError("wrong fields")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items()}
        for key, value in values.items():
            _check_size(key, value)
        sizes = NetworkConfig(**values)
        if (weights := _most_weights(sizes)) > MAX_WEIGHTS:
            raise ValueError(f"a network of {weights} weights")
    except (TypeError, ValueError, SettingsError) as error:
        raise DataError(f"{stem}.json has no usable network sizes: {error}", hint="train again") from error
    return sizes


def _check_size(key: str, value: object) -> None:
    """Raise ValueError unless a field of ``NetworkConfig`` is what a network can be built of."""
    listed = value if isinstance(value, tuple) else (value,)
    kind = {"tier": str, "encoder_residuals": bool}.get(key, int)
    if isinstance(value, tuple) != key.endswith(("_widths", "_residuals")) or len(listed) > MAX_LAYERS:
        raise ValueError(f"{key} is {value!r:.40}")
    for item in listed:
        if type(item) is not kind or (isinstance(item, int) and kind is int and not 0 <= item <= MAX_SIZE):
            raise ValueError(f"{key} is {item!r:.40}")


def _most_weights(sizes: NetworkConfig) -> int:
    """At most so many weights has an encoder or a decoder of these sizes."""
    encoder = (12, sizes.stem_width or 12, *sizes.encoder_widths)
    decoder = (sizes.grid_width, *sizes.decoder_widths)
    side = sizes.input_size >> (len(sizes.encoder_widths) + 1)
    features = encoder[-1] * side**2 + 4 * sizes.mesh_points + sizes.grid_width * sizes.grid**2 + 256
    pairs = (*itertools.pairwise(encoder), *itertools.pairwise(decoder))
    return sizes.code_size * features + sum(9 * (4 * a * b + 2 * b * b) for a, b in pairs)
