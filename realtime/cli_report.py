"""``train report``: every measure of shipped personas on people whom nobody trained on, as numbers and as a page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from engines import geometry
from engines.errors import DataError, PersonaNotFoundError, SettingsError
from engines.persona import Persona, PersonaStore, read_persona
from engines.types import F32, U8, AlignedFace, Frame, Swap
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.cli_train import need_packages
from realtime.cli_train_stages import DryRun, JsonFlag, TierName
from realtime.config import Settings
from realtime.console import console, errors_explained, print_json, say
from realtime.detect import MeshDetector
from realtime.latest import Latest
from realtime.live_settings import CurrentSettings
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.session import open_swap_runtime
from realtime.sink import NullSink
from realtime.swap import Swapper
from realtime.trace import Trace
from realtime.track import Tracker, TrackerConfig

if TYPE_CHECKING:
    from calibration.gallery import GalleryPersona
    from calibration.report import Measured, Worn
    from calibration.report_photos import PhotoExample

_FRAME_NS = 33_333_333


class LivePath:
    """One persona on the live path, with its defaults: what the report calls ``Wears``. Owns the stages, not the
    networks.
    """

    def __init__(self, persona: Persona, detector: MeshDetector, swapper: Swapper) -> None:
        self._takes_points = persona.manifest.mesh_points > 0
        self._detector, self._swapper = detector, swapper
        self.crop_size, self.swap_size = swapper.crop_size, swapper.swap_size

    def swap(self, crop: U8, points: F32 | None) -> tuple[U8, U8]:
        """(T, T, 3) pixels and (T, T) mask for an aligned face; copies."""
        whole = np.array([[1.0, 0, 0], [0, 1.0, 0]])
        face = AlignedFace(0, crop, whole, points=points if self._takes_points else None)
        swap = self._swapper.swap(face)
        return swap.pixels.copy(), swap.mask.copy()

    def live(self, pictures: Sequence[U8]) -> list[Worn | None]:
        """The pipeline itself on consecutive pictures of one size; None where its policy covered one."""
        from calibration.report import Worn

        taken: list[Swap] = []
        sink = _Keep()
        height, width = pictures[0].shape[:2]
        settings = Settings()
        blend = BlendConfig(settings.erode, settings.feather, colour_strength=settings.colour_strength)
        stages = Stages(
            Tracker(self._detector, TrackerConfig(smooth=settings.smooth)), kernels.FaceCropper(), self._swapper,
            Blender(blend, self.swap_size), None, CurrentSettings(settings).calm(),
        )  # fmt: skip
        pipeline = Pipeline(
            Latest[Frame](), stages, PolicyGate(FailurePolicy.VEIL, size=(width, height)), [sink],
            size=(width, height), limits=Limits(), trace=Trace(), watch=lambda _, swap: taken.append(swap),
        )  # fmt: skip
        out: list[Worn | None] = []
        for index, pixels in enumerate(pictures):
            taken.clear()
            pipeline.step(Frame(pixels, index, index * _FRAME_NS, index * _FRAME_NS))
            worn = Worn(sink.pixels, _mask_in_frame(taken[0], (width, height))) if taken else None
            out.append(worn)
        return out


class _Keep(NullSink):
    """Keeps a copy of the last picture."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels: U8 = np.zeros((0, 0, 3), np.uint8)

    def send(self, pixels: U8, frame: Frame) -> None:
        super().send(pixels, frame)
        self.pixels = pixels.copy()


def _mask_in_frame(swap: Swap, size: tuple[int, int]) -> U8:
    """The swap's mask where it lies in the frame of ``size`` (width, height)."""
    import cv2

    to_frame = geometry.rescale_crop(swap.face.to_frame, swap.face.pixels.shape[0], swap.mask.shape[0])
    return np.asarray(cv2.warpAffine(swap.mask, to_frame, size, flags=cv2.INTER_LINEAR), np.uint8)


def find_personas(tier: str, folder: Path | None, names: Sequence[str]) -> dict[str, Persona]:
    """Personas of ``tier`` by their name in the gallery, in the gallery's order; ``names`` empty takes all.

    They lie in ``folder`` or its folder ``tier``; without one in the shipped gallery. Raises PersonaNotFoundError when
    there is none, or none of a name; SettingsError for a name that the gallery does not know; PersonaFormatError for a
    damaged file.
    """
    from calibration.gallery import gallery

    known = gallery()
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"the gallery has no {unknown[0]!r}", hint=f"choose among: {', '.join(known)}")
    root = folder or Path(str(resources.files("realtime").joinpath("personas")))
    if not root.is_dir():
        raise PersonaNotFoundError(f"there is no folder {root}", hint="name a folder with .persona files")
    found: dict[str, Persona] = {}
    for path in PersonaStore([root / tier]).list() + PersonaStore([root]).list():
        name = path.stem.removesuffix(f"-{tier}")
        if name not in known or name in found or (names and name not in names):
            continue
        persona = read_persona(path)
        if persona.manifest.tier == tier:
            found[name] = persona
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise PersonaNotFoundError(
            f"{root} holds no {missing[0] if missing else 'persona'} of the tier {tier}",
            hint="another --tier, or --personas-dir with the files to report",
        )
    return {name: found[name] for name in known if name in found}


EXAMPLES = """Examples:

    personacam train report --tier small --seed 1 --wearers 4 --frames 40 --json

    personacam train report --tier tiny --persona vera --frames 8 --out runs/report-vera

    personacam train report --tier tiny --personas-dir runs/gallery/personas --dry-run"""


def add_verb(app: typer.Typer) -> None:
    """Add ``report`` to the group ``train``."""
    app.command("report", epilog=EXAMPLES)(report)


def report(
    tier: Annotated[TierName, typer.Option(help="Of the personas.")] = TierName.SMALL,
    seed: Annotated[int, typer.Option(min=0, help="Of wearers and states; none of them was ever trained.")] = 0,
    wearers: Annotated[int, typer.Option(min=1, help="Invented people who wear the personas.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="States in all, shared out among the wearers.")] = 40,
    names: Annotated[
        list[str] | None, typer.Option("--persona", help="A persona of the gallery; repeat it. All unless named.")
    ] = None,
    personas_dir: Annotated[
        Path | None, typer.Option(help="Folder of .persona files.", show_default="the shipped gallery")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/report"),
    photos: Annotated[
        bool, typer.Option("--photos/--no-photos", help="Photographs of real people that installed packages ship.")
    ] = True,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Measure personas against the truth: pictures, masks, landmarks, pose, identity, flicker, real photographs.

    Renders fresh wearers and states, runs every persona as in live use, and writes report.json, index.html and
    sheet.png. About a second a frame and persona.
    """
    with errors_explained(as_json=as_json):
        need_packages("the report", ("moderngl", "scipy"))
        from calibration.gallery import gallery
        from calibration.report_people import ReportPlan

        plan = ReportPlan(seed, wearers, frames)
        found = find_personas(tier.value, personas_dir, list(dict.fromkeys(names or ())))
        if dry_run:
            print_json({"out": str(out), "tier": tier.value, "seed": seed, "wearers": wearers, "frames": frames,
                        "personas": {name: str(p.path) for name, p in found.items()}})  # fmt: skip
            return
        need_packages("recognising faces", ("dlib", "face_recognition_models"), extra="train,identity")
        _make(out)
        known = gallery()
        people = [known[name] for name in found]
        try:
            with _bars() as said:
                figures, measured, shown = _measure(plan, found, people, said, photos=photos)
        except KeyboardInterrupt:
            say("stopped; nothing was written")
            raise typer.Exit(130) from None
        figures = {"tier": tier.value, "seed": seed, **figures}
        _write(out, figures, measured, shown)
    _say(figures, out)
    if as_json:
        print_json(figures)


def _make(out: Path) -> None:
    """Refuse before rendering what could not be written after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}", hint="choose another folder") from error


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """One bar for each thing that is done, with the time left."""
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def said(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield said


def _measure(
    plan: Any, found: dict[str, Persona], people: list[GalleryPersona], said: Callable[[str, int, int], None],
    *, photos: bool,
) -> tuple[dict[str, Any], dict[str, Measured], list[PhotoExample]]:  # fmt: skip
    from calibration.embedding import Embedder
    from calibration.people.render import Renderer
    from calibration.report import Bench, measure
    from calibration.report_photos import find_faces, measure_photos
    from engines.blazeface import load_blazeface
    from engines.facemesh import load_facemesh

    with ExitStack() as stack:
        facemesh, blazeface, detector = load_facemesh(), load_blazeface(), MeshDetector.load()
        for network in (facemesh, blazeface, detector):
            stack.callback(network.close)
        kernels.warm_up()

        @contextmanager
        def opened(name: str) -> Iterator[LivePath]:
            persona = found[name]
            runtime = open_swap_runtime(persona, Settings())
            try:
                yield LivePath(persona, detector, Swapper(persona, runtime))
            finally:
                runtime.close()

        renderer = stack.enter_context(Renderer())
        figures, measured = measure(Bench(renderer, facemesh, Embedder(), plan, said), people, opened)
        shown: list[PhotoExample] = []
        figures["real"] = None
        if photos:
            faces, skipped = find_faces(blazeface)
            figures["real"], shown = measure_photos(facemesh, faces, people, opened, said)
            figures["real"]["skipped"] = skipped
    return figures, measured, shown


def _write(out: Path, figures: dict[str, Any], measured: dict[str, Measured], shown: list[PhotoExample]) -> None:
    import cv2

    from calibration.report_page import contact_sheet, page, photo_sheet
    from engines.files import write_atomic

    sheets = {"sheet.png": contact_sheet(measured)} | ({"photos.png": photo_sheet(shown)} if shown else {})
    title = f"personacam, tier {figures['tier']}: report of seed {figures['seed']}"
    try:
        write_atomic(out / "report.json", (json.dumps(figures, indent=1) + "\n").encode())
        write_atomic(out / "index.html", page(figures, measured, shown, title).encode())
        for name, sheet in sheets.items():
            write_atomic(out / name, cv2.imencode(".png", sheet)[1].tobytes())
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}", hint="choose another folder") from error


def _say(figures: dict[str, Any], out: Path) -> None:
    from calibration.report_page import verdicts

    for what, target, value, passed in verdicts(figures):
        reached = "not measured" if value is None else f"{value:.3g}"
        say(f"{what}: {reached} ({target})", "" if passed is None else ("green" if passed else "yellow"))
    say(f"{out}: report.json, index.html and sheet.png, the contact sheet to look at")


__all__ = ["LivePath", "add_verb", "find_personas", "report"]
