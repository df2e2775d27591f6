from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import SinkError, SourceError, SourceFormatError
from realtime.render_clip import ClipReader, examine
from realtime.render_segment import SegmentWriter, packets
from realtime.render_work import cut, digest_of
from tests.realtime.film_world import BASE, picture, ticks_of, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "in.mp4", 50, start=640)


def test_the_index_holds_every_pictures_own_time(film):
    clip = examine(film)
    assert list(clip.ticks) == ticks_of(50, start=640)
    assert clip.time_base == BASE
    assert (clip.size, clip.quarters, clip.depth, clip.aspect) == ((64, 48), 0, 8, 1)
    assert len(clip.keys) == 5
    assert clip.last == 512
    assert clip.seconds(0) == 0.0
    assert clip.seconds(3) == pytest.approx(3 * 512 / 12_800)
    assert [clip.at(clip.seconds(i)) for i in (0, 7, 49)] == [0, 7, 49]
    assert clip.at(1e9) == 50


@pytest.mark.parametrize(("first", "end"), [(0, 5), (7, 23), (19, 20), (20, 31), (45, 50)])
def test_reading_may_begin_and_end_anywhere(film, first, end):
    clip = examine(film)
    whole = {frame.index: frame for frame in ClipReader(clip).read(0, 50)}
    assert list(whole) == list(range(50))
    some = list(ClipReader(clip).read(first, end))
    assert [frame.index for frame in some] == list(range(first, end))
    for frame in some:
        np.testing.assert_array_equal(frame.pixels, whole[frame.index].pixels)
        assert frame.timestamp_ns == whole[frame.index].timestamp_ns
    assert np.abs(some[0].pixels.astype(int) - picture(first, (64, 48))).mean() < 6


def test_a_turned_film_is_read_upright(tmp_path):
    clip = examine(write_film(tmp_path / "turned.mp4", 3, turned=90))
    assert (clip.size, clip.quarters) == ((48, 64), 1)
    upright = next(ClipReader(clip).read(0, 1)).pixels
    assert np.abs(upright.astype(int) - np.rot90(picture(0, (64, 48)))).mean() < 6


def test_pictures_without_times_are_refused_with_the_repair(tmp_path):
    raw = tmp_path / "raw.h264"
    with av.open(str(raw), "w", format="h264") as film:
        video = film.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            film.mux(video.encode(av.VideoFrame.from_ndarray(picture(index, (64, 48)), "bgr24")))
        film.mux(video.encode(None))
    with pytest.raises(SourceFormatError, match="time stamp") as caught:
        examine(raw)
    assert "-c copy" in caught.value.hint


def test_another_file_under_the_name_is_noticed(film, tmp_path):
    clip = examine(film)
    other = write_film(tmp_path / "in.mp4", 50, uneven=False, start=640)
    from dataclasses import replace

    with pytest.raises(SourceError, match="changed"):
        list(ClipReader(replace(clip, path=other)).read(0, 50))
    assert digest_of(film) != digest_of(other)
    assert digest_of(film) == digest_of(film)


def test_segments_are_whole_and_as_long_as_asked(film):
    clip = examine(film)
    for seconds in (0.3, 0.5, 0.7, 5.0):
        segments = cut(clip, seconds)
        assert [s.number for s in segments] == list(range(len(segments)))
        assert segments[0].first == 0
        assert segments[-1].end == 50
        assert all(a.end == b.first for a, b in itertools.pairwise(segments))
        lengths = [clip.seconds(s.end - 1) - clip.seconds(s.first) for s in segments]
        assert max(lengths) <= 1.5 * seconds
        assert all(length > 0 for length in lengths)


def test_a_segment_has_the_clips_ticks_and_appears_when_it_is_whole(film, tmp_path):
    clip = examine(film)
    path = tmp_path / "00000.mp4"
    writer = SegmentWriter(path, clip, 16, 1)
    for frame in ClipReader(clip).read(11, 25):
        assert not path.exists()
        writer.write(frame.pixels, frame.index)
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["00000.mp4"]
    found = list(packets(path, clip, 11))
    assert [p.pts for p in found] == list(clip.ticks[11:25])
    assert all(p.dts == p.pts for p in found)
    assert found[0].is_keyframe
    half = SegmentWriter(tmp_path / "00001.mp4", clip, 16, 1)
    half.write(frame.pixels, 25)
    half.abandon()
    assert [p.name for p in tmp_path.iterdir()] == ["00000.mp4"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SinkError, match="damaged"):
        list(packets(path, clip, 11))


def test_odd_sides_and_pixels_that_are_not_square_are_kept(tmp_path):
    from dataclasses import replace

    clip = replace(
        examine(write_film(tmp_path / "in.mp4", 3)), size=(63, 47), aspect=Fraction(4, 3), path=tmp_path / "x.mp4"
    )
    path = tmp_path / "00000.mp4"
    writer = SegmentWriter(path, clip, 8, 1)
    for index in range(3):
        writer.write(np.ascontiguousarray(picture(index, (64, 48))[:47, :63]), index)
    writer.close()
    with av.open(str(path)) as segment:
        stream = segment.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (64, 48, Fraction(4, 3))


def test_a_folder_that_may_not_be_written_is_said(film, tmp_path):
    with pytest.raises(SinkError, match="cannot be written"):
        SegmentWriter(tmp_path / "none" / "00000.mp4", examine(film), 16, 1)
