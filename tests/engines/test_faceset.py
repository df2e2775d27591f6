from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DataError
from engines.faceset import FaceSetInfo, FaceSetWriter, read_faceset
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
    (tmp_path / ".shard_0001.npz.tmp").write_bytes(b"half a shard")
    (tmp_path / "shard_0001.npz").write_bytes(b"written, but the kill came before the manifest")
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
    path = folder / "shard_0000.npz"
    path.write_bytes(path.read_bytes()[:-10])


def damage_flip(folder):
    path = folder / "shard_0000.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def damage_missing_shard(folder):
    (folder / "shard_0000.npz").unlink()


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
    "leads outside": lambda folder: edit(folder, lambda m: m["shards"][0].update(file="../shard_0000.npz")),
    "count": lambda folder: edit(folder, lambda m: m["shards"][0].update(count=3)),
    "empty": lambda folder: edit(folder, lambda m: m.update(shards=[])),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(tmp_path, damage):
    write_cartoons(tmp_path, states=2)
    damage(tmp_path)
    with pytest.raises(DataError) as caught:
        read_faceset(tmp_path)
    assert caught.value.hint


def test_a_missing_folder_or_identity_is_named(tmp_path, cartoon_folder):
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_faceset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="zoe"):
        read_faceset(cartoon_folder, identities=["zoe"])
