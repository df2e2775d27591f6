"""A persona of a tier for benchmarks: a shipped one, else one with random weights; time does not depend on weights.

    python benchmarks/tier_personas.py small base     prints the files; needs the train extra the first time

Random weights paint noise where the face is, which costs what a face costs: the mask of a freshly initialised network
is about one half everywhere, so as many pixels are blended. Kept in the cache folder (PERSONACAM_CACHE), under the
tier's name.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.mesh_subset import MESH_SUBSET
from engines.persona import Crop, Manifest, read_persona, write_persona
from realtime.session import persona_store

SEED = 5


def persona_of(tier: str, folder: Path | None = None) -> tuple[str, str]:
    """(name or file, whose weights: a persona's name or "random") of a tier; a tiny one is always shipped."""
    store = persona_store()
    for path in store.list():
        found = store.tiers(path.stem).get(tier)
        if found is not None:
            return str(found), path.stem
    own = Path(platformdirs.user_cache_dir("personacam", appauthor=False)) / "bench" if folder is None else folder
    path = own / f"random-{tier}.persona"
    if not path.exists():
        own.mkdir(parents=True, exist_ok=True)
        _make(path, tier)
    read_persona(path)
    return str(path), "random"


def _make(path: Path, tier: str) -> None:
    import torch

    from engines.compact import compact
    from engines.export import SwapGraph, to_onnx
    from engines.network import build_decoder, build_encoder, config

    torch.set_num_threads(1)
    known: Any = tier
    sizes = replace(config(known), mesh_points=len(MESH_SUBSET))
    decoder = build_decoder(sizes, seed=SEED + 1)
    with torch.no_grad():  # a mask that is surely there: the live path refuses swaps that do not cover the face
        decoder.head.bias[12:] = 4.0
    graph = SwapGraph(build_encoder(sizes, seed=SEED), decoder).eval()
    manifest = Manifest(
        name=f"random-{tier}", title=f"Random weights, {tier}", kind="invented", tier=tier, network="benchmark",
        encoder_sha256="0" * 64, crop=Crop(side_dm=2.15, centre_dm=(0.0, 0.28)), crop_size=sizes.input_size,
        output_size=sizes.output_size, code_size=sizes.code_size, mesh_points=len(MESH_SUBSET), code_calibration=True,
        seed=SEED, created_by="tier_personas",
    )  # fmt: skip
    write_persona(path, manifest, swap_onnx=compact(to_onnx(graph), "float16"), report={"weights": "random"})


if __name__ == "__main__":
    for name in sys.argv[1:] or ("tiny", "small", "base"):
        print(name, *persona_of(name))
