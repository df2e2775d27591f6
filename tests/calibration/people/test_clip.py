"""Clips and the truth beside them."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from calibration.people.classes import FACE_CLASSES
from calibration.people.clip import Clip, read_masks, write_clip, write_video
from calibration.people.identity import RENDERER_VERSION, cast
from calibration.people.props.worn import Props
from engines.errors import RenderError, SettingsError

CLIP = Clip(cast()["tomo"], "tomo", state_seed=2, frames=4, width=160, height=90, fps=25, supersample=1.0)


@pytest.mark.egl
def test_a_clip_and_its_truth_show_the_same(renderer, tmp_path):
    seen = []
    truth = write_clip(renderer, CLIP, tmp_path / "out" / "tomo.mp4", progress=lambda *n: seen.append(n))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(p.name for p in truth.parent.iterdir()) == ["tomo.mp4", "tomo.npz"]
    with av.open(str(truth.with_suffix(".mp4"))) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 25
        assert stream.codec_context.name == "h264"
        decoded = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    states = CLIP.states()
    with np.load(truth) as stored:
        arrays = dict(stored)
    shapes = {name: arrays[name].shape for name in ("landmarks", "landmarks_3d", "landmarks_visible", "mesh", "pose")}
    assert shapes == {
        "landmarks": (4, 68, 2), "landmarks_3d": (4, 68, 3), "landmarks_visible": (4, 68), "mesh": (4, 468, 2),
        "pose": (4, 3),
    }  # fmt: skip
    assert arrays["pose"][2].tolist() == pytest.approx([states[2].yaw, states[2].pitch, states[2].roll])
    jaw = arrays["expression_names"].tolist().index("jawOpen")
    assert arrays["expression"][:, jaw].tolist() == pytest.approx([s.expression.get("jawOpen", 0) for s in states])
    assert arrays["light"].shape == (4, len(arrays["light_names"]))
    assert dict(zip(arrays["camera_names"], arrays["camera"][0], strict=True))["width"] == 160
    facts = ("identity", "identity_seed", "state_seed", "renderer_version", "style", "fps")
    assert [arrays[n].item() for n in facts] == ["tomo", 23, 2, RENDERER_VERSION, "photo", 25]
    masks = list(read_masks(arrays))
    for k, state in enumerate(states):
        shot = renderer.render(CLIP.who, state, supersample=CLIP.supersample)
        assert np.array_equal(masks[k], shot.mask)
        assert np.array_equal(arrays["landmarks"][k], shot.landmarks)
        assert np.isin(shot.classes[masks[k] > 250], FACE_CLASSES).all()
        assert np.abs(decoded[k].astype(int) - shot.pixels).mean() < 6


@pytest.mark.egl
def test_an_interruption_leaves_nothing(renderer, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clip(renderer, CLIP, tmp_path / "tomo.mp4", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.egl
def test_what_cannot_be_written_is_named(renderer, tmp_path):
    with pytest.raises(SettingsError, match=r"tomo\.gif"):
        write_clip(renderer, CLIP, tmp_path / "tomo.gif")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RenderError, match="cannot write"):
        write_clip(renderer, CLIP, tmp_path / "file" / "tomo.mp4")


def test_a_video_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(RenderError, match="cannot write"):
        write_video(tmp_path / "nowhere" / "x.mp4", [np.zeros((64, 64, 3), np.uint8)], 30)


@pytest.mark.parametrize("wrong", [{"width": 161}, {"height": 32}, {"frames": 0}, {"fps": 0}, {"supersample": 9}])
def test_clips_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingsError):
        Clip(cast()["tomo"], **wrong)


def test_what_is_worn_is_worn_throughout():
    assert {s.props for s in CLIP.states()} == {Props()}
    for seed in range(5):
        worn = {s.props for s in replace(CLIP, state_seed=seed, props=True).states()}
        assert len(worn) == 1
        assert worn != {Props()}


def test_the_view_keeps_its_height_at_any_size():
    small, large = (Clip(CLIP.who, frames=1, width=w, height=h).states()[0].camera for w, h in ((640, 360), (800, 720)))
    assert (small.width, small.height) == (640, 360)
    assert large.focal_px == pytest.approx(2 * small.focal_px)
