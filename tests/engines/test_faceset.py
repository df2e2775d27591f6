from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DataError
from engines.faceset import EXTRAS, Faces, FaceSetInfo, read_faceset, read_index
from engines.faceset_codec import map_npz
from engines.faceset_writer import FaceSetWriter, encode_shard
from engines.folder_lock import FolderLock
from tests.engines.synthetic import faces, write_cartoons

INFO = FaceSetInfo(origin="cartoons 1", consent="invented:0", seeds={"people": 0}, size=40)


def test_what_is_written_is_read(tmp_path):
    writer = FaceSetWriter(tmp_path, INFO)
    crops, masks, landmarks, pose = faces(3, [4, 5, 9], 40)
    writer.add("ann", "wearer", "train", [4, 5, 9], crops, masks, landmarks, pose)
    writer.add("ann", "wearer", "train", [10], *faces(3, [10], 40))
    writer.add("odin", "persona", "val", np.array([4]), *faces(5, [4], 40))
    found = read_faceset(tmp_path)
    ann = found.faces["ann"]
    assert found.info == INFO
    assert (ann.role, ann.split, ann.states.tolist()) == ("wearer", "train", [4, 5, 9, 10])
    assert np.array_equal(ann.masks[:3], masks)
    assert np.abs(ann.crops[:3].astype(int) - crops).mean() < 3  # JPEG
    assert np.array_equal(ann.landmarks[:3], landmarks)
    assert np.array_equal(ann.pose[:3], pose)
    assert found.named("persona") == ["odin"]
    assert found.named("wearer", "val") == []
    assert set(read_faceset(tmp_path, identities=["odin"]).faces) == {"odin"}


def test_a_writer_continues_where_a_killed_one_stopped(tmp_path):
    FaceSetWriter(tmp_path, INFO).add("ann", "wearer", "train", [0, 1], *faces(3, [0, 1], 40))
    (tmp_path / ".bob-000.npz.tmp").write_bytes(b"half a shard")
    (tmp_path / "bob-000.npz").write_bytes(b"written, but the kill came before the manifest")
    writer = FaceSetWriter(tmp_path, INFO)
    assert writer.finished("ann") == {0, 1}
    assert writer.finished("bob") == set()
    writer.add("bob", "wearer", "train", [0], *faces(4, [0], 40))
    assert set(read_faceset(tmp_path).faces) == {"ann", "bob"}


def test_equal_data_have_equal_digests(tmp_path):
    one, two = (read_faceset(write_cartoons(tmp_path / n, states=2)).digest for n in "ab")
    other = read_faceset(write_cartoons(tmp_path / "c", states=3)).digest
    assert one == two != other


def test_a_folder_of_another_set_is_refused(tmp_path):
    FaceSetWriter(tmp_path, INFO)
    with pytest.raises(DataError, match="another face set"):
        FaceSetWriter(tmp_path, replace(INFO, seeds={"people": 1}))


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    with FaceSetWriter(tmp_path, INFO) as first:
        first.add("ann", "wearer", "train", [0], *faces(3, [0], 40))
        with pytest.raises(DataError, match="somebody else is writing") as caught:
            FaceSetWriter(tmp_path, INFO)
        assert "wait" in caught.value.hint
        assert set(read_faceset(tmp_path).faces) == {"ann"}  # reading is not writing
        FaceSetWriter(tmp_path / "elsewhere", INFO).close()
    second = FaceSetWriter(tmp_path, INFO)
    second.add("bob", "wearer", "train", [0], *faces(4, [0], 40))
    assert set(read_faceset(tmp_path).faces) == {"ann", "bob"}


def test_the_lock_of_a_killed_writer_is_free(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engines.folder_lock import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
        other.kill()
        other.wait()
        FolderLock(tmp_path).release()


@pytest.mark.parametrize("states", [[0, 0], [7, 1]])
def test_repeated_states_are_refused(tmp_path, states):
    writer = FaceSetWriter(tmp_path, INFO)
    writer.add("ann", "wearer", "train", [7], *faces(3, [7], 40))
    with pytest.raises(DataError, match="already has"):
        writer.add("ann", "wearer", "train", states, *faces(3, states, 40))


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    writer = FaceSetWriter(tmp_path, INFO)
    crops, masks, landmarks, pose = faces(3, [0, 1], 40)
    with pytest.raises(DataError, match="shapes"):
        writer.add("ann", "wearer", "train", [0], crops, masks, landmarks, pose)
    with pytest.raises(DataError, match="uint8"):
        writer.add("ann", "wearer", "train", [0, 1], crops / 255, masks, landmarks, pose)
    writer.add("ann", "wearer", "train", [0, 1], crops, masks, landmarks, pose)
    with pytest.raises(DataError, match="wearer/train"):
        writer.add("ann", "persona", "train", [2], *faces(3, [2], 40))


def damage_truncate(folder):
    path = folder / "ann-000.npz"
    path.write_bytes(path.read_bytes()[:-10])


def damage_flip(folder):
    path = folder / "ann-000.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def damage_missing_shard(folder):
    (folder / "ann-000.npz").unlink()


def damage_manifest(folder):
    (folder / "manifest.json").write_text('{"format": "personacam-faceset"')


def edit(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


DAMAGES = {
    "truncated": damage_truncate,
    "one bit": damage_flip,
    "no shard": damage_missing_shard,
    "half a manifest": damage_manifest,
    "foreign": lambda folder: edit(folder, lambda m: m.update(format="other")),
    "newer": lambda folder: edit(folder, lambda m: m.update(version=99)),
    "no size": lambda folder: edit(folder, lambda m: m.pop("size")),
    "other size": lambda folder: edit(folder, lambda m: m.update(size=41)),
    "role": lambda folder: edit(folder, lambda m: m["shards"][0].update(role="king")),
    "leads outside": lambda folder: edit(folder, lambda m: m["shards"][0].update(file="../ann-000.npz")),
    "pictures": lambda folder: edit(folder, lambda m: m.update(picture="gif")),
    "extras": lambda folder: edit(folder, lambda m: m.update(extras=["soul"])),
    "count": lambda folder: edit(folder, lambda m: m["shards"][0].update(count=3)),
    "empty": lambda folder: edit(folder, lambda m: m.update(shards=[])),
}


def test_a_folder_that_takes_no_files_is_named(tmp_path, monkeypatch):
    def read_only(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("engines.faceset_writer.write_atomic", read_only)
    with pytest.raises(DataError, match="cannot write to the folder"):
        FaceSetWriter(tmp_path, FaceSetInfo("cartoons 1", "invented:0", {}, 40))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(tmp_path, damage):
    write_cartoons(tmp_path, states=2)
    damage(tmp_path)
    with pytest.raises(DataError) as caught:
        read_faceset(tmp_path)
    assert caught.value.hint


def test_a_missing_folder_or_identity_is_named(tmp_path, cartoon_folder):
    with pytest.raises(DataError, match=r"no face set"):
        read_faceset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="zoe"):
        read_faceset(cartoon_folder, identities=["zoe"])


RICH = replace(
    INFO,
    extras=tuple(EXTRAS),
    columns={"expression": tuple(f"unit{i}" for i in range(52)), "light": ("power",), "camera": ("x", "y")},
)


def truth(n, info=RICH, seed=0):
    """Every extra, recognisable."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.random((n, *info.extra_shape(name))) * (200 if EXTRAS[name][1] is np.uint8 else 1))
        .round(2)
        .astype(EXTRAS[name][1])
        for name in info.extras
    }


@pytest.mark.parametrize("picture", ["jpeg", "webp"])
def test_further_truth_is_read_when_it_is_asked_for(tmp_path, picture):
    info, extras = replace(RICH, picture=picture, style="anime"), truth(3)
    FaceSetWriter(tmp_path, info).add("ann", "wearer", "train", [0, 1, 2], *faces(3, [0, 1, 2], 40), extras)
    assert read_index(tmp_path).info == info
    plain = read_faceset(tmp_path).faces["ann"]
    assert plain.extras == {}
    assert np.abs(plain.crops.astype(int) - faces(3, [0, 1, 2], 40)[0]).mean() < 6
    some = read_faceset(tmp_path, extras=("mesh", "classes")).faces["ann"].extras
    assert set(some) == {"mesh", "classes"}
    for name, values in read_faceset(tmp_path, extras=tuple(EXTRAS)).faces["ann"].extras.items():
        assert values.dtype == EXTRAS[name][1]
        assert np.array_equal(values, extras[name]), name
    first = map_npz(tmp_path / "ann-000.npz")["crops"][:12].tobytes()
    assert (b"WEBP" in first) == (picture == "webp")


def test_the_order_of_writing_leaves_no_trace(tmp_path):
    digests = []
    for n, order in enumerate(([0, 1, 2], [2, 0, 1])):
        shards = [("ann", [0, 1]), ("ann", [2]), ("bob", [0])]
        writer = FaceSetWriter(tmp_path / str(n), INFO)
        for i in order:
            name, states = shards[i]
            crops, masks, landmarks, pose = faces(3 + len(name), states, 40)
            of_person = Faces(name, "wearer", "train", np.array(states), crops, masks, landmarks, pose)
            writer.put(encode_shard(INFO, of_person, part=states[0] // 2))
        digests.append(read_faceset(tmp_path / str(n)).digest)
        assert read_faceset(tmp_path / str(n)).faces["ann"].states.tolist() == [0, 1, 2]
    assert digests[0] == digests[1]


def test_extras_that_do_not_fit_are_refused(tmp_path):
    writer, arrays = FaceSetWriter(tmp_path / "a", RICH), faces(3, [0], 40)
    with pytest.raises(DataError, match="extras"):
        writer.add("ann", "wearer", "train", [0], *arrays)
    with pytest.raises(DataError, match="mesh"):
        writer.add("ann", "wearer", "train", [0], *arrays, truth(1) | {"mesh": np.zeros((1, 467, 2), np.float32)})
    with pytest.raises(DataError, match="light"):
        FaceSetWriter(tmp_path / "b", replace(RICH, columns={}))
    writer.add("ann", "wearer", "train", [0], *arrays, truth(1))
    FaceSetWriter(tmp_path / "c", INFO).add("ann", "wearer", "train", [0], *arrays)
    with pytest.raises(DataError, match="no extra truth mesh") as caught:
        read_faceset(tmp_path / "c", extras=("mesh",))
    assert "none" in caught.value.hint


@pytest.mark.parametrize(("name", "message"), [("../ann", "cannot name"), ("", "cannot name"), ("ANN", "already")])
def test_names_that_would_not_be_files_of_their_own_are_refused(tmp_path, name, message):
    writer = FaceSetWriter(tmp_path, INFO)
    writer.add("ann", "wearer", "train", [0], *faces(3, [0], 40))
    with pytest.raises(DataError, match=message):
        writer.add(name, "wearer", "train", [0], *faces(3, [0], 40))


def test_a_set_of_version_1_is_read(tmp_path):
    """As the first version wrote it: numbered shards, no description of pictures or further truth."""
    write_cartoons(tmp_path, states=2)
    now = read_faceset(tmp_path)
    (tmp_path / "ann-000.npz").rename(tmp_path / "shard_0000.npz")

    def older(manifest):
        manifest["version"] = 1
        manifest["shards"][0]["file"] = "shard_0000.npz"
        for name in ("style", "picture", "quality", "extras", "columns"):
            del manifest[name]

    edit(tmp_path, older)
    before = read_faceset(tmp_path)
    assert before.info == now.info
    assert np.array_equal(before.faces["ann"].crops, now.faces["ann"].crops)


def test_a_mapped_shard_holds_what_numpy_reads(tmp_path):
    FaceSetWriter(tmp_path, RICH).add("ann", "wearer", "train", [0, 1], *faces(3, [0, 1], 40), truth(2))
    path = tmp_path / "ann-000.npz"
    mapped = map_npz(path)
    with np.load(path) as stored:
        assert set(mapped) == set(stored.files)
        for name in stored.files:
            assert mapped[name].dtype == stored[name].dtype
            assert np.array_equal(mapped[name], stored[name])
    np.savez_compressed(tmp_path / "small.npz", **mapped)
    with pytest.raises(ValueError, match="compressed"):
        map_npz(tmp_path / "small.npz")


def test_the_manifest_names_every_file(tmp_path):
    write_cartoons(tmp_path, states=2)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["version"] == 2
    assert manifest["count"] == 14
    for shard in manifest["shards"]:
        assert hashlib.sha256((tmp_path / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]
