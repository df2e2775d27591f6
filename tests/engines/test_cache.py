from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engines import cache as module
from engines.cache import PlanCache, PlanKey
from engines.errors import CacheError

KEY = PlanKey("a" * 64, "NVIDIA GeForce RTX 4090", "8.9", "580.95", "tensorrt-rtx", "1.7.1", "fp16", "crop 1x128x128x3")
REPOSITORY = str(Path(module.__file__).parents[1])


@pytest.fixture
def said():
    return []


@pytest.fixture
def cache(tmp_path, said):
    return PlanCache(tmp_path / "engines", say=said.append)


def start(code: str, *arguments: object) -> subprocess.Popen:
    """Another process."""
    head = "import sys, time\nfrom pathlib import Path\nfrom engines.cache import PlanCache, PlanKey\n"
    head += f"KEY = PlanKey(*{[getattr(KEY, name) for name in KEY.__slots__]!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_a_plan_comes_back_with_what_was_remembered(cache, said):
    assert cache.get(KEY) is None
    assert cache.entries() == []
    path = cache.put(KEY, b"plan" * 1000, {"seconds": 2.5})
    assert cache.get(KEY) == b"plan" * 1000
    assert cache.find(KEY).info == {"seconds": 2.5}
    (entry,) = cache.entries()
    assert (entry.path, entry.key, entry.info, entry.size) == (path, KEY, {"seconds": 2.5}, path.stat().st_size)
    assert said == []


@pytest.mark.parametrize("name", KEY.__slots__)
def test_whatever_changes_is_another_key(cache, name):
    cache.put(KEY, b"plan")
    other = replace(KEY, **{name: "another"})
    assert cache.get(other) is None
    cache.put(other, b"other")
    assert (cache.get(KEY), cache.get(other)) == (b"plan", b"other")


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


@pytest.mark.parametrize(
    ("spoil", "how"),
    [
        (flipped, "is damaged"),
        (lambda raw: raw[:-10], "is damaged"),
        (lambda raw: raw[:30], "is damaged"),
        (lambda raw: b"", "no plan of this program"),
        (lambda raw: b"ftrt" + raw, "no plan of this program"),
        (lambda raw: raw.replace(b'"sha256"', b'"sha257"'), "is damaged"),
        (lambda raw: raw.replace(b"580.95", b"580.96"), "another key"),
        (lambda raw: raw[:18] + b"\xff" * 8 + raw[26:], "is damaged"),
    ],
)
def test_a_broken_or_foreign_file_is_removed_with_one_line(cache, said, spoil, how):
    path = cache.put(KEY, b"plan" * 100)
    path.write_bytes(spoil(path.read_bytes()))
    assert cache.get(KEY) is None
    assert not path.exists()
    assert len(said) == 1
    assert how in said[0]
    assert "\n" not in said[0]
    cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"


def test_a_plan_that_cannot_be_loaded_is_given_up(cache, said):
    cache.put(KEY, b"plan")
    cache.discard(KEY, "cannot be loaded")
    cache.discard(KEY, "cannot be loaded")
    assert cache.get(KEY) is None
    assert len(said) == 1
    assert "cannot be loaded" in said[0]


def test_a_list_drops_what_is_no_plan_of_its_name(cache, said):
    path = cache.put(KEY, b"plan")
    path.rename(path.with_name("b" * 64 + ".plan"))
    assert cache.entries() == []
    assert len(said) == 1


def test_other_files_are_left_alone(cache):
    size = cache.put(KEY, b"plan" * 100).stat().st_size
    own = cache.folder / "my notes.plan"
    own.write_text("mine")
    with cache.lock(KEY):
        pass
    assert cache.clear() == (1, size)
    assert [p.name for p in cache.folder.iterdir()] == ["my notes.plan"]


def test_the_least_recently_used_go_first(cache):
    keys = [replace(KEY, model_sha256=c * 64) for c in "abcd"]
    cache.limit_bytes = 3 * cache.put(keys[0], bytes(100_000)).stat().st_size
    for age, key in zip((300, 200, 100), keys, strict=False):
        path = cache.put(key, bytes(100_000))
        os.utime(path, (time.time() - age,) * 2)
    assert cache.get(keys[0]) is not None  # used now: the second is the oldest
    cache.put(keys[3], bytes(100_000))
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    assert sum(entry.size for entry in cache.entries()) <= cache.limit_bytes


def test_a_plan_beyond_the_limit_stays_until_the_next(cache):
    cache.limit_bytes = 1000
    cache.put(KEY, bytes(5000))
    assert cache.get(KEY) is not None
    other = replace(KEY, driver="581")
    cache.put(other, bytes(5000))
    assert (cache.get(KEY), cache.get(other)) == (None, bytes(5000))


# ---- several processes -----------------------------------------------------------------------------------------------

BUILD = """
    cache, mark = PlanCache(Path(sys.argv[1])), Path(sys.argv[2])
    with cache.lock(KEY, lambda: mark.with_suffix(".waiting").touch()) as waited:
        if cache.get(KEY) is None:
            mark.with_suffix(".building").touch()
            while not mark.with_suffix(".go").exists():
                time.sleep(0.02)
            cache.put(KEY, b"built by " + mark.name.encode())
    print(waited, cache.get(KEY).decode())
"""


def test_of_two_processes_one_builds_and_the_other_waits(cache, tmp_path):
    first = start(BUILD, cache.folder, tmp_path / "first")
    wait_for(tmp_path / "first.building")
    second = start(BUILD, cache.folder, tmp_path / "second")
    wait_for(tmp_path / "second.waiting")
    (tmp_path / "first.go").touch()
    assert first.communicate(timeout=30)[0].split(maxsplit=1) == ["False", "built by first\n"]
    assert second.communicate(timeout=30)[0].split(maxsplit=1) == ["True", "built by first\n"]
    assert not (tmp_path / "second.building").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_builder_that_is_killed_lets_go(cache, tmp_path):
    first = start(BUILD, cache.folder, tmp_path / "first")
    wait_for(tmp_path / "first.building")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    with cache.lock(KEY, lambda: pytest.fail("the dead still hold it")):
        assert cache.get(KEY) is None


KILLED_WHILE_WRITING = """
    import os
    real = os.fsync
    def half(number):
        real(number)
        Path(sys.argv[2]).touch()
        time.sleep(60)
    os.fsync = half
    PlanCache(Path(sys.argv[1])).put(KEY, bytes(1_000_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kill_during_the_write_leaves_no_broken_plan(cache, tmp_path, said, monkeypatch):
    cache.put(replace(KEY, driver="older"), b"older")
    writer = start(KILLED_WHILE_WRITING, cache.folder, tmp_path / "half")
    wait_for(tmp_path / "half")
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert cache.get(KEY) is None
    assert len(cache.entries()) == 1
    assert said == []
    left = list(cache.folder.glob(".*.tmp"))
    assert len(left) == 1
    cache.put(KEY, b"plan")
    assert left[0].exists()  # its writer may still be at it
    old = time.time() - module.STALE_S - 1
    os.utime(left[0], (old, old))
    cache.put(KEY, b"plan")
    assert not left[0].exists()
    assert cache.get(KEY) == b"plan"


def test_clearing_leaves_a_lock_that_is_held(cache, tmp_path):
    first = start(BUILD, cache.folder, tmp_path / "first")
    wait_for(tmp_path / "first.building")
    cache.clear()
    second = start(BUILD, cache.folder, tmp_path / "second")
    wait_for(tmp_path / "second.waiting")
    (tmp_path / "first.go").touch()
    assert "first" in second.communicate(timeout=30)[0]
    first.communicate(timeout=30)


# ---- disks -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_named_error_and_the_cache_stays_usable(cache, monkeypatch):
    cache.put(KEY, b"first")
    other = replace(KEY, driver="581")

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CacheError, match="the disk is full") as caught:
            cache.put(other, bytes(100_000))
    assert "engines clear" in caught.value.hint
    assert cache.get(KEY) == b"first"
    assert cache.get(other) is None
    assert [p.suffix for p in cache.folder.iterdir()] == [".plan"]
    cache.put(other, b"now there is room")
    assert cache.get(other) == b"now there is room"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_really_full(cache, monkeypatch):
    real = Path.open

    def full(path, mode="r", *arguments):
        return real(Path("/dev/full") if path.suffix == ".tmp" else path, mode, *arguments)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CacheError, match="the disk is full"):
        cache.put(KEY, bytes(1_000_000))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    cache = PlanCache(tmp_path / "file" / "engines")
    assert cache.get(KEY) is None
    assert cache.entries() == []
    assert cache.clear() == (0, 0)
    with pytest.raises(CacheError, match="cannot be kept"):
        cache.put(KEY, b"plan")
    with pytest.raises(CacheError, match="cannot be used"), cache.lock(KEY):
        pass


def test_the_folder_can_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONACAM_CACHE", str(tmp_path))
    assert module.default_folder() == tmp_path / "engines"
    monkeypatch.delenv("PERSONACAM_CACHE")
    assert "personacam" in str(module.default_folder())


def test_the_driver_has_a_release_or_is_none():
    assert module.driver_release()
