"""What guided expressions look like to an encoder, with and without a biased face at rest, from invented people:

    python -m calibration.guided_reference --persona realtime/personas/vera.persona \
        --out engines/models/universal-tiny/guided.npz

Any persona of the encoder will do: its graph gives the code. To be made again whenever an encoder is trained; the file
names the encoder that it is of. Everybody follows the guide three times, without a bias and with two random ones, and
is seen in everyday moments each time. 80 people take about ten minutes of one core, half of that in two processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.progress import Progress

from calibration.calibrate_wearer import make_reference
from calibration.consent_gates import shown_only
from calibration.guided_map import GuidedPerson
from calibration.guided_people import SeenFace, biased, everyday, moments, random_rest, shoot
from calibration.people.identity import random_identity
from calibration.people.render import Renderer
from calibration.people.state import random_state
from engines.errors import DataError
from engines.facemesh import FaceMesh, load_facemesh
from engines.files import write_atomic
from engines.persona import Persona, read_persona
from engines.runtimes import Runtime, open_runtime
from engines.types import F32

_SEEDS = (1 << 58) + (1 << 40)
_EVERYDAY_SEEDS = _SEEDS + (1 << 30)
FRAMES = {"neutral": 3, "smile": 2, "open": 2}
EVERYDAY = 6
BIASES = 2
_CHUNK = 5
"""People of one task: opening a renderer takes seconds."""


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


def guided_person(
    persona: Persona, runtime: Runtime, renderer: Renderer, facemesh: FaceMesh, number: int
) -> GuidedPerson:
    """One invented person in one light, without a bias and with ``BIASES``."""
    who, rng = random_identity(_SEEDS + number), np.random.default_rng([number, 110, 5])
    session = random_state(_SEEDS + number, props=False)
    asked = {name: moments(name, session, count, rng) for name, count in FRAMES.items()}
    first = _EVERYDAY_SEEDS + 100 * number
    asked["everyday"] = everyday(session, range(first, first + EVERYDAY))
    seen: list[dict[str, F32]] = []
    for rest in ({}, *(random_rest(rng) for _ in range(BIASES))):
        codes: dict[str, F32] = {}
        for name, states in asked.items():
            faces = shoot(renderer, facemesh, who, [biased(s, rest) for s in states], persona.manifest.crop_size)
            codes[name] = np.stack([code_of(persona, runtime, face) for face in faces]).mean(axis=0)
        seen.append(codes)
    plain = seen[0]
    return GuidedPerson(plain, tuple((codes, plain["everyday"] - codes["everyday"]) for codes in seen[1:]))


def _some_people(persona_file: Path, numbers: range) -> list[GuidedPerson]:
    persona = read_persona(persona_file, admit=shown_only)
    runtime, facemesh = open_runtime(persona.swap_onnx), load_facemesh()
    with Renderer() as renderer:
        return [guided_person(persona, runtime, renderer, facemesh, number) for number in numbers]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persona", type=Path, required=True, help="a .persona file of the encoder")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    manifest = read_persona(options.persona, admit=shown_only).manifest
    if manifest.code_reference is None:
        raise DataError("the persona has no reference codes", hint="use a newer file of it")
    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's threads: processes share the cores instead
    chunks = [range(i, min(i + _CHUNK, options.people)) for i in range(0, options.people, _CHUNK)]
    people: dict[int, GuidedPerson] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool, Progress() as progress:
        task = progress.add_task("people", total=options.people)
        waiting = {pool.submit(_some_people, options.persona, chunk): chunk for chunk in chunks}
        for done in as_completed(waiting):
            people |= zip(waiting[done], done.result(), strict=True)
            progress.update(task, completed=len(people))
    spread = np.array(manifest.code_reference.spread, np.float32)
    # In the people's order, whichever process was first: the file depends on nothing else.
    found = make_reference(manifest.encoder_sha256, spread, [people[number] for number in sorted(people)])
    write_atomic(options.out, found.encode())
    print(f"reach {np.round(found.reach, 2)}, ridge {found.ridge}, rank {len(found.outward)}: {options.out}")


if __name__ == "__main__":
    main()
