"""Fuzz the readers for as long as you like.

    python -m tests.fuzz --target persona --minutes 10
    python -m tests.fuzz --minutes 1                            every reader, one after the other
    python -m tests.fuzz --target onnx --engine atheris         guided by coverage; pip install atheris

Cases are mutations of small real files (tests/fuzz/formats.py knows their structure), the same ones for the same seed.
They run in a process of their own with bounded memory; one that dies or hangs is noticed and replaced. A finding lies
in --out as NAME.zip (the files) and NAME.txt (what happened); put it into tests/fuzz/corpus/TARGET/ once it is
repaired. The last line of each target is a JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

HANG_S = 60.0
"""So long on one case, half of it on a processor, is a hang; ten times as long is one on a busy machine too."""


_READERS = {
    "checkpoint": ["engines.checkpoint"], "bundle": ["engines.checkpoint", "engines.universal_bundle"],
    "clip": ["realtime.files"], "faceset": ["engines.faceset", "engines.faceset_codec", "engines.torch_faceset"],
    "onnx": ["engines.onnx_guard", "engines.onnx_fold"], "picture": ["engines.picture"], "plan": ["engines.cache"],
    "persona": ["engines.persona", "engines.persona_zip", "engines.onnx_guard", "engines.signature"],
    "profile": ["realtime.config"], "wearer": ["engines.wearer"],
}  # fmt: skip
"""What atheris follows line by line; not all of the program, whose kernels numba could then not compile."""


def work(name: str, seed: int, first: int, out: Path, engine: str) -> None:
    """Cases from ``first`` on, until killed. The state before each case is in OUT/TARGET.now."""
    from tests.fuzz import targets
    from tests.fuzz.watch import Watch

    target = targets.TARGETS[name]
    seeds = target.seeds()
    warm = Watch()
    for case in seeds:  # imports and compiled kernels are no case's memory or time
        warm.run(target, case)
    watch = Watch(limit_memory=sys.platform == "linux")
    now = out / f"{name}.now"
    known: set[str] = set()
    number, parent = first, os.getppid()

    def attempt(case: targets.Case) -> None:
        nonlocal number
        if os.getppid() != parent:  # nobody watches any more
            os._exit(1)
        packed = targets.pack(case)
        (out / f"{name}.case").write_bytes(packed)
        fresh = now.with_suffix(".tmp")
        fresh.write_text(f"{number} {time.monotonic()}")
        fresh.replace(now)  # whoever reads it sees all of it
        found = watch.run(target, case)
        number += 1
        if found is not None:
            keep(out, name, packed, found, known)

    if engine == "atheris":
        _guided(name, seed, out, attempt)
        return
    while os.getppid() == parent:
        rng = random.Random(f"{name} {seed} {number}")
        attempt(targets.mutated(target, rng, rng.choice(seeds)))


def _guided(name: str, seed: int, out: Path, attempt: object) -> None:
    """Mutations of what reached new lines of our own readers, instead of the seeds only."""
    import atheris

    from tests.fuzz import targets

    target = targets.TARGETS[name]
    seeds = target.seeds()
    corpus = out / f"{name}.corpus"
    corpus.mkdir(exist_ok=True)
    for case in seeds:
        packed = targets.pack(case)
        (corpus / hashlib.sha256(packed).hexdigest()[:16]).write_bytes(packed)

    def mutator(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        try:
            packed = targets.pack(targets.mutated(target, rng, targets.unpack(data)))
        except Exception:  # no case, or a mutation that wants more memory than there may be
            packed = targets.pack(rng.choice(seeds))
        return packed if len(packed) <= max_size else data

    def one(data: bytes) -> None:
        try:
            case = targets.unpack(data)
        except Exception:
            return
        attempt(case)  # type: ignore[operator]

    options = [f"-seed={seed or 1}", "-max_len=2000000", "-rss_limit_mb=0", "-timeout=1000000", "-verbosity=0"]
    atheris.Setup(
        [sys.argv[0], str(corpus), *options],
        one,
        custom_mutator=mutator,
    )
    atheris.Fuzz()


def keep(out: Path, name: str, packed: bytes, found: str, known: set[str]) -> None:
    """Write a finding, once for each place that it comes from."""
    lines = [line.strip() for line in found.strip().splitlines()]
    kind = "\n".join([*[line for line in lines if line.startswith("File ")][-1:], lines[-1][:60]])
    if kind in known or len(known) > 200:
        return
    known.add(kind)
    stem = out / f"{name}-{hashlib.sha256(kind.encode()).hexdigest()[:10]}"
    stem.with_suffix(".zip").write_bytes(packed)
    stem.with_suffix(".txt").write_text(found)
    sys.stderr.write(f"{name}: {stem.name}: {lines[-1][:150]}\n")


def supervise(name: str, seed: int, minutes: float, out: Path, engine: str) -> dict[str, object]:
    """Run one target; a worker that dies or hangs leaves a finding and is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    now, started = out / f"{name}.now", time.monotonic()
    known: set[str] = set()
    cases = first = deaths = 0
    guided = [sys.executable, "-m", "tests.fuzz"]
    while time.monotonic() - started < minutes * 60:
        now.unlink(missing_ok=True)
        command = [*guided, "--worker", "--target", name, "--seed", str(seed), "--first", str(first), "--out", str(out)]
        with (out / f"{name}.log").open("wb") as log:  # decoders complain about each case
            worker = subprocess.Popen([*command, "--engine", engine], stdout=log, stderr=log)
        begun = time.monotonic()
        verdict, watched, spent = None, -1, 0.0
        while verdict is None and time.monotonic() - started < minutes * 60:
            time.sleep(0.25)
            number, since = _state(now, begun)
            if number != watched:
                watched, spent = number, _processor_s(worker.pid)
            if worker.poll() is not None:
                verdict = f"the process died: {_cause(worker.returncode)}"
            elif time.monotonic() - since > HANG_S and _processor_s(worker.pid) - spent > HANG_S / 2:
                verdict = f"hang: no end after {HANG_S:.0f} s"
            elif time.monotonic() - since > 10 * HANG_S:
                verdict = f"hang: no end after {10 * HANG_S:.0f} s"
        worker.kill()
        worker.wait()
        number = max(_state(now, begun)[0], first)
        cases += number - first
        first = number + 1
        if verdict is not None:
            deaths += 1
            case = out / f"{name}.case"
            last = (out / f"{name}.log").read_bytes()[-3000:].decode(errors="replace")
            text = f"{last}\n{verdict} (case {number})\n{verdict}"
            keep(out, name, case.read_bytes() if case.exists() else b"", text, known)
    seconds = time.monotonic() - started
    findings = sorted(path.stem for path in out.glob(f"{name}-*.txt"))
    return {
        "target": name, "engine": engine, "seed": seed, "minutes": round(seconds / 60, 2), "cases": cases,
        "deaths": deaths, "findings": findings,
    }  # fmt: skip


def _state(now: Path, begun: float) -> tuple[int, float]:
    try:
        number, since = now.read_text().split()
        return int(number), float(since)
    except (OSError, ValueError):
        return 0, begun


def _processor_s(process: int) -> float:
    """Seconds of processor time so far; infinite where there is no /proc, so that the clock alone decides."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf") if not Path("/proc/self/stat").exists() else 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def main() -> None:
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(TARGETS), help="one reader; all of them without it")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["seeded", "atheris"], default="seeded")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where findings go")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        if arguments.engine == "atheris":
            import atheris

            with atheris.instrument_imports(include=_READERS[arguments.target]):
                for name in _READERS[arguments.target]:
                    importlib.import_module(name)
        work(arguments.target, arguments.seed, arguments.first, arguments.out, arguments.engine)
        return
    worst = 0
    for name in [arguments.target] if arguments.target else sorted(TARGETS):
        result = supervise(name, arguments.seed, arguments.minutes, arguments.out, arguments.engine)
        print(json.dumps(result), flush=True)
        worst |= bool(result["findings"])
    os._exit(worst)


if __name__ == "__main__":
    main()
