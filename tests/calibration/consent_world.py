"""An invented person enrolled as if real: keys, footage, record, face set, weights and persona file, all tiny."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from calibration.consent import ConsentRecord, Media, Party, as_text, sign_record
from calibration.consent_gates import Gatekeeper, digest_file
from calibration.consent_keys import public_hex
from calibration.consent_revocation import write_list
from engines.faceset import FaceSetInfo
from engines.faceset_writer import FaceSetWriter
from engines.persona import read_persona, write_persona
from engines.persona_zip import pack, unpack
from engines.signature import sign
from tests.engines.synthetic import faces
from tests.onnx_models import manifest, swap_model

NAME = "ada"
ADDRESS = "https://example.org/ada/revocations.json"
BEGIN = datetime(2026, 2, 1, tzinfo=timezone.utc)
EXTRACTED = datetime(2026, 2, 2, tzinfo=timezone.utc)
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
END = datetime(2027, 2, 1, tzinfo=timezone.utc)
ADA, EVE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
EMPTY_LIST = write_list([])


def record_of(footage: Path, enroller: Ed25519PrivateKey, **changes: Any) -> ConsentRecord:
    fields: dict[str, Any] = {
        "subject": Party(name="Ada Example", key=public_hex(ADA)),
        "enroller": Party(name="Studio Example", key=public_hex(enroller)),
        "persona": NAME,
        "purposes": ("stream", "recording"),
        "territory": ("world",),
        "valid_from": as_text(BEGIN),
        "valid_until": as_text(END),
        "disclosure": "AI MODIFIED",
        "revocation": (ADDRESS,),
        "footage": (digest_file(footage),),
        "statement": Media(name="yes.wav", sha256="5" * 64, bytes=9),
        "asked": as_text(BEGIN),
        "nonce": "0" * 32,
    }
    return ConsentRecord(**(fields | changes))


@dataclass
class World:
    """A machine. Everything lies under ``root``."""

    root: Path
    now: datetime = NOW
    answer: bytes | Exception = EMPTY_LIST
    """What the person's address gives."""
    faces: int = 2
    """How many are cut from the footage."""

    def __post_init__(self) -> None:
        self.warnings: list[str] = []
        self.asked: list[str] = []
        self.gate = Gatekeeper(self.home, now=lambda: self.now, fetch=self._fetch, warn=self.warnings.append)

    def _fetch(self, address: str, timeout_s: float) -> bytes:
        self.asked.append(address)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def footage(self) -> Path:
        return self.root / "ada.mp4"

    @property
    def faceset(self) -> Path:
        return self.root / "faces"

    @property
    def weights(self) -> Path:
        return self.root / "run" / "decoder"

    @property
    def file(self) -> Path:
        """As somebody else would send it."""
        return self.root / "sent.persona"

    @property
    def standing(self) -> Path:
        return self.home / "personas" / f"{NAME}.persona"

    @property
    def record_file(self) -> Path:
        return next((self.home / "consent" / "records").glob("*.json"))

    @property
    def key(self) -> Ed25519PrivateKey:
        return self.gate.store.key()

    # ---- the gates, as a table test calls them -----------------------------------------------------------------------

    def extract(self) -> Any:
        return self.gate.extract(NAME, [self.footage])

    def train(self) -> Any:
        return self.gate.train(NAME, self.faceset, self.root / "run")

    def export(self) -> Any:
        return self.gate.export(NAME, self.faceset, self.weights, self.root / "out.persona")

    def bring_in(self) -> Any:
        return self.gate.bring_in(self.file)

    def run(self) -> Any:
        return self.gate.run(self.file, [("stream", "call")])

    # ---- making it ---------------------------------------------------------------------------------------------------

    def extract_faces(self) -> None:
        """What an extraction does: ask, cut faces (of a cartoon), remember."""
        consent, footage = self.gate.extract(NAME, [self.footage])
        info = FaceSetInfo(origin="cartoons 1", consent=consent, seeds={}, size=40, footage=footage)
        with FaceSetWriter(self.faceset, info) as writer:
            states = list(range(self.faces))
            writer.add(NAME, "persona", "train", states, *faces(3, states, 40))
        self.gate.extracted(NAME, self.faceset)

    def learn(self) -> None:
        """What an enrollment leaves; the network itself is of no interest here."""
        from engines.faceset import read_index

        self.weights.parent.mkdir(exist_ok=True)
        index = read_index(self.faceset)
        data = b"weights of ada"
        self.weights.with_suffix(".safetensors").write_bytes(data)
        about = {"consent": index.info.consent, "data": index.digest, "sha256": hashlib.sha256(data).hexdigest()}
        self.weights.with_suffix(".json").write_text(json.dumps(about))

    def write_file(self) -> None:
        permit = self.export()
        self.file.unlink(missing_ok=True)
        person = manifest(name=NAME, title="Ada", kind="person", seed=None, chain=permit.chain)
        onnx = swap_model().SerializeToString()
        write_persona(
            self.file, person, swap_onnx=onnx, decoder=b"\x02\0\0\0\0\0\0\0{}", report={}, key=permit.key,
            consent=permit.consent,
        )  # fmt: skip

    def copy(self, root: Path) -> World:
        shutil.copytree(self.root, root)
        return replace(self, root=root)

    # ---- breaking it -------------------------------------------------------------------------------------------------

    def rewrite(
        self,
        path: Path,
        *,
        rehash: bool = True,
        key: Ed25519PrivateKey | None = None,
        fields: dict[str, Any] | None = None,
        **members: bytes | None,
    ) -> None:
        """A persona file with other members and manifest fields; signed again with ``key``, if there is one."""
        inside = unpack(path.read_bytes())
        for short, content in members.items():
            name = {"onnx": "swap.onnx", "consent": "consent.json"}[short]
            inside.pop(name)
            if content is not None:
                inside[name] = content
        head = json.loads(inside["manifest.json"]) | (fields or {})
        if rehash:
            own = inside.keys() - {"manifest.json", "signature"}
            head["members"] = {n: hashlib.sha256(inside[n]).hexdigest() for n in own}
        if rehash or fields:
            inside["manifest.json"] = json.dumps(head).encode()
        if key is not None:
            inside["signature"] = sign(inside["manifest.json"], key)
        path.write_bytes(pack(inside))

    def member(self, path: Path, name: str) -> bytes:
        return unpack(path.read_bytes())[name]


def enrolled(root: Path) -> World:
    """From footage to a persona file that stands on the machine, through the gates."""
    root.mkdir()
    world = World(root, now=EXTRACTED)
    world.footage.write_bytes(b"footage of ada " * 40)
    world.gate.store.add(sign_record(record_of(world.footage, world.key), ADA))
    world.extract_faces()
    world.train()
    world.learn()
    world.write_file()
    world.bring_in()
    world.now = NOW
    return world


def flipped(data: bytes, at: int = -20) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


__all__ = ["World", "enrolled", "flipped", "read_persona", "timedelta"]
