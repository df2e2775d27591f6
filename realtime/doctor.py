"""What this computer has for the live path, line by line, each fault with its repair. Opens no camera."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.errors import DeviceError, MissingDependencyError, PersonacamError
from engines.runtimes.cuda import Card, Cuda
from engines.runtimes.openvino import import_openvino, openvino_core
from realtime import v4l2
from realtime.camera_list import camera_list_note, list_cameras
from realtime.credentials import missing_library
from realtime.doctor_virtualcam import gather_mac, gather_windows, judge_linux, judge_mac, judge_windows
from realtime.engine_plan import RTX_COMPUTE, choose
from realtime.finding import Finding
from realtime.loopback import gather
from realtime.microphone import list_microphones
from realtime.models import default_insightface_folder, locate_insightface
from realtime.sink import display_problem

PersonaCheck = tuple[str, bool, str]
"""(name, whether it can be worn, one line about it)."""

REQUIRED = ("numpy", "numba", "opencv-python", "av", "onnxruntime", "openvino", "pyvirtualcam")
_OTHER_OPENCV = ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def diagnose(
    personas: Sequence[PersonaCheck] | Callable[[], Sequence[PersonaCheck]] = (), models_folder: Path | None = None
) -> list[Finding]:
    """Look at everything, in the order in which a user meets it.

    ``personas``: what the persona store found. ``models_folder``: where InsightFace packs lie; None means
    where the insightface package keeps them.
    """
    folder = default_insightface_folder() if models_folder is None else models_folder
    found: list[Finding] = []
    found += check_python()
    found += check_packages()
    found.append(check_cores())
    found += check_cameras()
    found += check_virtual_camera()
    found += check_runtimes()
    found.append(check_encoder())
    found.append(check_display())
    found.append(check_insightface(folder))
    found += check_personas(personas() if callable(personas) else personas)
    return found


def to_dict(findings: Iterable[Finding]) -> dict[str, Any]:
    """For JSON: {"findings": [{"topic", "state", "text", "repair"}], "ok": no finding failed}."""
    rows = [asdict(finding) for finding in findings]
    return {"findings": rows, "ok": all(row["state"] != "fail" for row in rows)}


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """The interpreter."""
    text = f"Python {version[0]}.{version[1]} on {sys.platform}"
    if version < (3, 10):
        return [Finding("python", "fail", text, "install Python 3.10 to 3.13")]
    if version > (3, 13):
        return [Finding("python", "warn", f"{text}, newer than what was tried", "use Python 3.10 to 3.13")]
    return [Finding("python", "ok", text)]


def check_packages(version_of: Callable[[str], str | None] | None = None) -> list[Finding]:
    """The packages that the live path needs, and two OpenCVs that overwrite each other's files."""
    lookup = version_of or _version
    versions = {name: lookup(name) for name in REQUIRED}
    missing = [name for name, version in versions.items() if version is None]
    found = []
    if missing:
        found.append(Finding("packages", "fail", "missing: " + ", ".join(missing), "pip install " + " ".join(missing)))
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    if there:
        found.append(Finding("packages", "ok", there))
    others = [name for name in _OTHER_OPENCV if lookup(name) is not None]
    if others:
        fix = f"pip uninstall {' '.join(others)} && pip install --force-reinstall opencv-python"
        found.append(Finding("packages", "warn", f"more than one OpenCV: also {', '.join(others)}", fix))
    return found


def check_cores() -> Finding:
    """How many processor cores this process may use."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return Finding("cpu", "warn", "1 core", "give the program two or more cores")
    return Finding("cpu", "ok", f"{cores} cores")


def check_cameras(sysfs: Path = v4l2.SYSFS) -> list[Finding]:
    """Each camera, and who holds it."""
    note = camera_list_note()
    if note is not None:
        return [Finding("camera", "ok", note)]
    cameras = list_cameras(sysfs)
    if not cameras:
        fix = "plug one in; without one: personacam run --source pattern, or --source FILE.mp4"
        return [Finding("camera", "warn", "no camera is connected", fix)]
    found = []
    for camera in cameras:
        label = f"{camera.index}: {camera.name} ({camera.path})"
        users = v4l2.holders(camera.path)
        if not os.access(camera.path, os.R_OK | os.W_OK):
            fix = "sudo usermod -a -G video $USER, then log in again"
            found.append(Finding("camera", "fail", f"{label} may not be opened by this user", fix))
        elif users:
            fix = "end that program's video before starting"
            found.append(Finding("camera", "warn", f"{label} is open in {', '.join(users)}", fix))
        else:
            found.append(Finding("camera", "ok", label))
    return found


def check_virtual_camera(platform: str = sys.platform, root: Path = Path("/")) -> list[Finding]:
    """Whether a virtual camera can be started and will be listed, as far as can be told without starting it."""
    if platform == "win32":
        return judge_windows(gather_windows())
    if platform == "darwin":
        return judge_mac(gather_mac())
    if platform == "linux":
        return judge_linux(gather(root))
    fix = "use --sink FILE.mp4 or --sink preview"
    return [Finding("virtual camera", "fail", f"there is none for {platform}", fix)]


def check_runtimes() -> list[Finding]:
    """What can execute the networks, fastest first."""
    found = []
    found += check_card()
    with contextlib.suppress(MissingDependencyError):
        try:
            openvino = import_openvino()
            devices = ", ".join(openvino_core().available_devices)
            found.append(Finding("runtime", "ok", f"openvino {openvino.__version__.split('-')[0]}: {devices}"))
        except RuntimeError as error:
            found.append(
                Finding("runtime", "warn", f"openvino fails: {error}", "pip install --force-reinstall openvino")
            )
    onnxruntime = _import("onnxruntime")
    if onnxruntime is not None:
        providers = ", ".join(onnxruntime.get_available_providers())
        found.append(Finding("runtime", "ok", f"onnxruntime {onnxruntime.__version__}: {providers}"))
    if not any(finding.state == "ok" for finding in found):
        found.append(Finding("runtime", "fail", "nothing can execute the networks", "pip install openvino onnxruntime"))
    return found


def check_card(find: Callable[[], Card] = lambda: Cuda().card) -> list[Finding]:
    """The NVIDIA card, and whether personas run on it; nothing where there is no driver."""
    try:
        card = find()
    except DeviceError as error:
        return [] if error.kind == "missing" else [Finding("runtime", "warn", error.message, error.hint)]
    text = f"{card.name} (SM {card.sm}, {card.memory_bytes / 2**30:.0f} GiB)"
    choice = choose("auto", card)
    if isinstance(choice, str):
        fix = "pip install 'personacam[rtx]'" if card.compute in RTX_COMPUTE else "pip install 'personacam[tensorrt]'"
        return [Finding("runtime", "warn", f"{text} is not used: {choice}", fix)]
    return [Finding("runtime", "ok", f"{text}: personas run on it as {choice.backend} engines, FP16")]


def check_encoder() -> Finding:
    """H.264, content credentials and sound for recordings."""
    av = _import("av")
    if av is None or "libx264" not in av.codecs_available:
        return Finding("recording", "fail", "no H.264 encoder (libx264)", "pip install --force-reinstall av")
    encoder, missing = f"H.264 by libx264 in PyAV {av.__version__}", missing_library()
    if missing is not None:
        return Finding("recording", "warn", f"{encoder}; no content credentials", missing)
    try:
        sound = f"{len(list_microphones())} microphones"
    except PersonacamError as error:
        sound = f"no sound, which is optional: {error}"
    return Finding("recording", "ok", f"{encoder}, content credentials; {sound}")


def check_display() -> Finding:
    """A display for ``--sink preview``."""
    problem = display_problem()
    if problem is not None:
        return Finding(
            "display", "warn", f"no preview window: {problem}", "run in a desktop session to use --sink preview"
        )
    return Finding("display", "ok", "preview windows can be shown")


def check_insightface(folder: Path) -> Finding:
    """The local pack for ``--detector insightface``, which is optional."""
    topic = "insightface models"
    pack = locate_insightface(folder)
    if pack is not None:
        return Finding(topic, "ok", f"{pack.name} in {pack.parent} (non-commercial licence)")
    return Finding(topic, "ok", f"none in {folder}; optional, personacam models fetch shows the licence and gets them")


def check_personas(personas: Sequence[PersonaCheck]) -> list[Finding]:
    """The personas that can be worn."""
    found = []
    for name, good, detail in personas:
        fix = None if good else f"delete the file {name}.persona; if it came with personacam, reinstall that"
        found.append(Finding("persona", "ok" if good else "fail", f"{name}: {detail}", fix))
    if not found:
        found.append(Finding("persona", "fail", "there is none", "reinstall personacam; eight come with it"))
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import(module: str) -> Any:
    """The module, or None when it is absent or a library of its own is."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
