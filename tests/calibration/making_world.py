"""A real person's persona made by ``make_persona`` on small networks, with cartoons for footage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calibration.consent import sign_record
from calibration.making import Made, Making, MakingHooks, Step, make_persona
from calibration.persona_export import export_enrolled
from engines import checkpoint
from engines.enroll import EnrollConfig
from engines.faceset import read_index
from engines.film import FilmDecoder
from engines.network import NetworkConfig, build_encoder
from engines.universal_networks import save_people, save_trunk
from tests.calibration.consent_world import ADA, EXTRACTED, NAME, NOW, World, record_of

SIZES = NetworkConfig(
    tier="tiny", input_size=32, output_size=32, code_size=24, stem_width=0, encoder_widths=(16, 24, 32),
    encoder_residuals=(False, False, True), grid=4, grid_width=32, decoder_widths=(24, 16),
)  # fmt: skip
FACES = 12


def write_universal(folder: Path) -> Path:
    """Networks that know nothing, as a universal run leaves them."""
    trunk = FilmDecoder(SIZES, seed=1)
    vectors = 0.1 * torch.randn(2, trunk.film_size, generator=torch.Generator().manual_seed(0))
    encoder = checkpoint.save_encoder(folder / "encoder", build_encoder(SIZES, seed=0), {})
    found = save_trunk(folder / "trunk", trunk, {"encoder_sha256": json.loads(encoder.read_text())["sha256"]})
    save_people(folder / "people", vectors, ["mara", "odin"], {"trunk_sha256": json.loads(found.read_text())["sha256"]})
    return folder


class MakingWorld(World):
    """A machine on which ``make_persona`` makes the persona; its stages stand for the first three gates."""

    @property
    def universal(self) -> Path:
        return self.root / "universal"

    @property
    def faceset(self) -> Path:
        return self.root / "made" / "faces"

    @property
    def weights(self) -> Path:
        return next((self.root / "made").glob("run-*")) / "decoder"

    @property
    def making(self) -> Making:
        config = EnrollConfig(steps=3, batch=4, check_every=2, threads=1, warmup_steps=1, report_seconds=0)
        return Making(NAME, self.root / "made", self.standing, self.universal, config)

    def cut(self, tell: Any) -> Path:
        """The first stage: as long as faces are missing, and through the gate each time."""
        tell(Step("faces", 0.5, None))
        if not self.faceset.exists():
            self.extract_faces()
        else:
            self.gate.extract(NAME, [self.footage])
        return self.faceset

    def make(self, extract: Any = None, hooks: MakingHooks | None = None) -> Made:
        return make_persona(self.gate, self.making, extract or self.cut, hooks or MakingHooks())

    # ---- what the table of gates calls -------------------------------------------------------------------------------

    def extract(self) -> Made:
        return self.make()

    def train(self) -> Made:
        return self.make(lambda _: self.faceset)  # as if the first gate had let pass a moment ago

    def export(self) -> Any:
        return export_enrolled(
            self.gate, NAME, self.faceset, self.weights.parent, self.root / "out.persona", universal=self.universal
        )

    def learn(self) -> None:
        """Make the weights say that they are of the face set as it is now."""
        path = self.weights.with_suffix(".json")
        index = read_index(self.faceset)
        about = {"consent": index.info.consent, "data": index.digest}
        path.write_text(json.dumps(json.loads(path.read_text()) | about))


def footage_only(root: Path) -> MakingWorld:
    """Footage, a signed record and universal networks; nothing made yet."""
    root.mkdir()
    world = MakingWorld(root, now=EXTRACTED, faces=FACES)
    world.footage.write_bytes(b"footage of ada " * 40)
    world.gate.store.add(sign_record(record_of(world.footage, world.key), ADA))
    write_universal(world.universal)
    return world


def made(root: Path) -> MakingWorld:
    """All stages done; the persona stands, and lies in ``file`` as if somebody else had sent it."""
    world = footage_only(root)
    result = world.make()
    assert result.stopped == "finished"
    world.file.write_bytes(world.standing.read_bytes())
    return replace(world, now=NOW)
