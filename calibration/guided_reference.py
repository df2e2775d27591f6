"""What guided expressions look like to an encoder, from invented people:

    python -m calibration.guided_reference --persona realtime/personas/vera.persona \
        --out engines/models/universal-tiny/guided.npz

Any persona of the encoder will do: its graph gives the code. To be made again whenever an encoder is trained; the file
names the encoder that it is of. 60 people take about six minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from calibration.calibrate_wearer import DIRECTIONS, make_reference
from calibration.consent_gates import shown_only
from calibration.guided_people import SeenFace, moments, shoot
from calibration.people.identity import random_identity
from calibration.people.render import Renderer
from calibration.people.state import random_state
from engines.errors import DataError
from engines.facemesh import load_facemesh
from engines.files import write_atomic
from engines.persona import Persona, read_persona
from engines.runtimes import Runtime, open_runtime
from engines.types import F32

_SEEDS = 1 << 58
_NEUTRAL = 2
"""Frames of each of two sessions, in different lights."""


def code_of(persona: Persona, runtime: Runtime, face: SeenFace) -> F32:
    """(C,) the code of one face, uncalibrated; a copy."""
    feeds = {name: np.zeros(shape, np.float32) for name, shape in persona.manifest.network_inputs().items()}
    feeds["face"][0] = (face.crop[..., ::-1].astype(np.float32) / 255).transpose(2, 0, 1)
    if "code_gain" in feeds:
        feeds["code_gain"].fill(1.0)
    if "points" in feeds and face.points is not None:
        feeds["points"][0] = face.points
        feeds["present"].fill(1.0)
    return np.array(runtime.run(feeds)["code"][0], np.float32)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persona", type=Path, required=True, help="a .persona file of the encoder")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--people", type=int, default=60)
    options = parser.parse_args()
    persona = read_persona(options.persona, admit=shown_only)
    if persona.manifest.code_reference is None:
        raise DataError("the persona has no reference codes", hint="use a newer file of it")
    runtime, facemesh = open_runtime(persona.swap_onnx), load_facemesh()
    size = persona.manifest.crop_size
    neutral: list[F32] = []
    people: list[int] = []
    moves: dict[str, list[F32]] = {name: [] for name in DIRECTIONS}
    with Renderer() as renderer:
        for number in track(range(options.people), "people"):
            who, rng = random_identity(_SEEDS + number), np.random.default_rng([number, 110])
            for light in range(2):
                session = random_state(_SEEDS + 2 * number + light, props=False)
                asked = ["neutral"] * _NEUTRAL + (list(DIRECTIONS) if light == 0 else [])
                states = [state for prompt in asked for state in moments(prompt, session, 1, rng)]
                codes = [code_of(persona, runtime, face) for face in shoot(renderer, facemesh, who, states, size)]
                neutral.append(np.mean(codes[:_NEUTRAL], axis=0))
                people.append(number)
                for name, code in zip(asked[_NEUTRAL:], codes[_NEUTRAL:], strict=True):
                    moves[name].append(code - neutral[-1])
    spread = np.array(persona.manifest.code_reference.spread, np.float32)
    found = make_reference(persona.manifest.encoder_sha256, spread, neutral, people, moves)
    write_atomic(options.out, found.encode())
    print(f"reach {np.round(found.reach, 2)}, neutral people differ by {np.round(found.sd, 2)} of it: {options.out}")


if __name__ == "__main__":
    main()
