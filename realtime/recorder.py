"""Recording to a file: H.264 and AAC through PyAV, every frame with its own time stamp.

While recording, the file is a fragmented MP4 beside the target ("out.mp4.part.mp4"): whatever happens to the process,
what it holds can be played, except the last second, and a later recording to the same target leaves it alone.
``close`` copies its packets, without encoding again, into the target (for MP4 with the index in front, so that browsers
play it at once), has it sealed (content credentials), and removes the part.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engines.errors import PersonacamError, SinkError, SinkUnavailableError
from engines.types import U8, Frame
from realtime.pacing import Sleep
from realtime.planes import BT709, PixelFormat, buffer_for, convert
from realtime.remux import TICKS_PER_SECOND, TIMESCALE, copy_packets
from realtime.sound import SoundSource, SoundTrack
from realtime.source import letterbox

Seal = Callable[[Path, Path], str]
"""(finished file, the name that it will get): signs it in place and says so in a few words. Raises PersonacamError."""

RECORDING_SUFFIXES = frozenset({".mp4", ".mkv", ".mov"})

_BT709, _LIMITED_RANGE = 1, 1  # AVCOL_SPC_BT709 (also SWS_CS_ITU709), AVCOL_RANGE_MPEG
_ENCODER_THREADS = 2
_LAST_SOUND_S, _LAST_SOUND_TRIES = 0.3, 15
_FRAGMENTED = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    # With what the encoder holds back (ten frames and one more a thread) less than a second is lost at a crash.
    "frag_duration": "300000",
    # Pictures are written at once, whether there is sound for their time yet or not.
    "max_interleave_delta": "500000",
    "flush_packets": "1",
    **TIMESCALE,
}
_X264 = {
    "preset": "veryfast",
    "crf": "18",
    # No B-frames: each packet is shown when it is decoded, so time stamps pass through every container unchanged.
    "bf": "0",
}


class RecorderSink:
    """Writes an .mp4, .mov or .mkv. The target appears, or is replaced, when ``close`` has finished it.

    Frames of another size than that of ``open`` are letterboxed. H.264 needs even sides: an odd picture gets its last
    column or row once more. Time stamps are kept to 1/90000 s (.mkv: to a millisecond); one that does not grow is
    moved to one tick after the one before. Sound is placed by the time at which it was heard.
    """

    name = "recorder"

    def __init__(
        self,
        path: Path,
        *,
        sound: SoundSource | None = None,
        delay_ms: Callable[[], float | None] = lambda: None,
        from_first: bool = False,
        seal: Seal | None = None,
        copy: Callable[[Path, Path], None] | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        """``delay_ms``: of the sound behind the moment at which it was heard, as if it went out with the pictures: what
        it is more than their latency is what the camera takes before its time stamp. None: just their latency.
        ``from_first``: time stamps count from the first frame, for a recording that begins in the middle of a stream.
        ``copy``: as ``copy_packets``.
        """
        self.path = path
        self._sound, self._delay_ms, self._from_first, self._seal = sound, delay_ms, from_first, seal
        self.latency_ms: float | None = None
        """From capture to ``send``, as measured by whoever calls it. May be set by any thread."""
        self._sleep, self._copy = sleep, copy or copy_packets
        self._track: SoundTrack | None = None
        self._zero_ns = 0
        self._clock_ns: int | None = None
        """What is added to the clock's time to get the file's, by the latest frame; None before the first."""
        self.part = path.with_name(path.name + ".part.mp4")
        """Where the recording lies until ``close``; ``open`` takes another name if a crash left something there."""
        self._left: list[Path] = []
        self.report = f"recording to {path}"
        self.frames = 0
        """Frames written."""
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last_tick: int | None = None
        self._broken = False
        self._size = (0, 0)
        self._even: U8 = np.empty((0, 0, 3), np.uint8)
        self._planes: U8 = buffer_for((0, 0), PixelFormat.I420)

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Begin the file. Raises SinkError when it cannot be written, SinkUnavailableError without the encoder."""
        self.close()
        self.frames, self._last_tick, self._broken, self._size = 0, None, False, size
        self._track, self._clock_ns, self._zero_ns = None, None, 0
        if self.path.is_dir() or not self.path.parent.is_dir():
            problem = "is a folder" if self.path.is_dir() else f"cannot be made: there is no folder {self.path.parent}"
            raise SinkError(f"the recording {self.path} {problem}", hint="make the folder, or give another path")
        if "libx264" not in av.codecs_available:
            raise SinkUnavailableError(
                "this PyAV has no H.264 encoder (libx264)", hint="pip install --force-reinstall av"
            )
        width, height = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._even = np.empty((height, width, 3), np.uint8)
        self._planes = buffer_for((width, height), PixelFormat.I420)
        convert(self._even, PixelFormat.I420, self._planes, BT709)  # loads the kernel, so that the first frame is quick
        self.part, self._left = _free_part(self.path)
        try:
            self._container = av.open(str(self.part), "w", format="mp4", options=_FRAGMENTED)
            self._stream = _add_h264(self._container, (width, height), fps)
            if self._sound is not None:
                self._sound.start()
                self._track = SoundTrack(self._container, self._sound.rate, self._sound.channels)
        except PersonacamError:  # the microphone's own
            self._abandon()
            raise
        except (FFmpegError, OSError, ValueError) as error:
            self._abandon()
            raise SinkError(
                f"the recording {self.part} cannot be begun: {error}", hint="choose a folder that you may write"
            ) from error
        sound = f", sound from {self._sound.name}" if self._sound is not None else ""
        self.report = f"recording to {self.path}: H.264 {width}x{height}{sound}{self._also_left()}"

    def send(self, pixels: U8, frame: Frame) -> None:
        """Encode the picture at ``frame.timestamp_ns``. Raises SinkError, for example when the disk is full."""
        if self._container is None or self._stream is None or self._broken:
            raise SinkError(f"the recording {self.path} is not open", hint="call open first, and not after a failure")
        if self._clock_ns is None and self._from_first:
            self._zero_ns = frame.timestamp_ns
        self._clock_ns = frame.timestamp_ns - self._zero_ns - frame.captured_ns
        tick = round((frame.timestamp_ns - self._zero_ns) * TICKS_PER_SECOND / 1_000_000_000)
        if self._last_tick is not None and tick <= self._last_tick:
            tick = self._last_tick + 1
        convert(self._fitted(pixels), PixelFormat.I420, self._planes, BT709)
        encodable = VideoFrame.from_ndarray(self._planes, "yuv420p")
        encodable.colorspace, encodable.color_range = _BT709, _LIMITED_RANGE
        encodable.pts, encodable.time_base = tick, Fraction(1, TICKS_PER_SECOND)
        try:
            self._container.mux(self._stream.encode(encodable))
            self._last_tick = tick
            self._hear(self._container)
        except (FFmpegError, OSError) as error:
            self._broken = True
            raise _write_error(self.path, error) from error
        self.frames += 1

    @property
    def sound_problem(self) -> str | None:
        """Why there is no more sound; None while all is well, and without a microphone."""
        return self._sound.problem if self._sound is not None else None

    def listen(self) -> None:
        """Take in what the microphone heard, while no picture comes. Raises SinkError."""
        if self._container is None or self._broken:
            return
        try:
            self._hear(self._container)
        except (FFmpegError, OSError) as error:
            self._broken = True
            raise _write_error(self.path, error) from error

    def close(self) -> None:
        """Finish the file. May be called twice. Raises SinkError if it is incomplete and nobody has been told yet."""
        container, stream = self._container, self._stream
        self._container = self._stream = None
        if container is None or stream is None:
            return
        failure: Exception | None = None
        try:
            if not self._broken:
                container.mux(stream.encode(None))
                self._hear_the_end(container)
        except (FFmpegError, OSError) as error:
            failure = error
        if self._sound is not None:
            self._sound.close()
        try:
            container.close()
        except (FFmpegError, OSError) as error:
            failure = failure or error
        if self.frames == 0:
            self.part.unlink(missing_ok=True)
            self.report = f"recording to {self.path}: no frame came, no file was made{self._also_left()}"
            return
        failure = self._finish() or failure
        if failure is not None and not self._broken:
            self._broken = True
            raise _write_error(self.path, failure) from failure

    def _hear(self, container: OutputContainer) -> None:
        """Sound until now; silence where there is none, because pictures do not wait for it."""
        if self._sound is None or self._track is None or self._clock_ns is None:
            return
        delay_ms, latency_ms = self._delay_ms(), self.latency_ms
        inside_camera_ms = 0.0 if delay_ms is None or latency_ms is None else delay_ms - latency_ms
        for block in self._sound.read():
            measured_s = (block.captured_ns + self._clock_ns) / 1e9 + inside_camera_ms / 1e3
            for packet in self._track.push(block, measured_s):
                container.mux(packet)
        for packet in self._track.fill(self._seconds()):
            container.mux(packet)

    def _hear_the_end(self, container: OutputContainer) -> None:
        """Sound comes later than the picture of its time: wait for that of the last picture, but not long."""
        if self._sound is None or self._track is None:
            return
        for _ in range(_LAST_SOUND_TRIES):
            self._hear(container)
            if self._track.written_s >= self._seconds() or self._sound.problem is not None:
                break
            self._sleep(_LAST_SOUND_S / _LAST_SOUND_TRIES)
        for packet in self._track.finish():
            container.mux(packet)

    def _seconds(self) -> float:
        """File time of the last picture."""
        return 0.0 if self._last_tick is None else self._last_tick / TICKS_PER_SECOND

    def _finish(self) -> Exception | None:
        """Turn the part into the target; the reason if only the part, or a file without an index in front, is left."""
        finished = self.path.with_name(self.path.stem + ".finishing" + self.path.suffix)
        try:
            self._copy(self.part, finished)
            sealed = self._sealed(finished)
            finished.replace(self.path)
        except (FFmpegError, OSError) as error:
            return self._keep_part(error)
        finally:
            finished.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)
        state = ", cut short" if self._broken else ""
        silent = f"; {self.sound_problem}" if self.sound_problem else ""
        self.report = f"recorded {self.path}: {self.frames} frames{state}{sealed}{silent}{self._also_left()}"
        return None

    def _sealed(self, finished: Path) -> str:
        """What the seal says. A recording without one is worth more than none."""
        if self._seal is None:
            return ""
        try:
            return f", {self._seal(finished, self.path)}"
        except PersonacamError as error:
            return f", WITHOUT content credentials: {error}"

    def _keep_part(self, error: Exception) -> Exception:
        """The copy failed, mostly for want of space. The part is an MP4 itself: give it the target's name if it may."""
        kept = self.part
        if self.path.suffix.lower() == ".mp4":
            try:
                self.part.replace(self.path)
                kept = self.path
            except OSError:
                pass
        self.report = f"recorded {kept}: at most {self.frames} frames, without its final copy ({error})"
        return error

    def _also_left(self) -> str:
        """What earlier recordings to this target left unfinished, for the report."""
        if not self._left:
            return ""
        return f"; unfinished from before, to play or delete: {', '.join(str(path) for path in self._left)}"

    def _abandon(self) -> None:
        """Undo a beginning that failed."""
        container, self._container, self._stream = self._container, None, None
        if self._sound is not None:
            self._sound.close()
        if container is not None:
            container.close()
            self.part.unlink(missing_ok=True)

    def _fitted(self, pixels: U8) -> U8:
        """Contiguous pixels with even sides, at most a view of the caller's or this sink's buffer."""
        fitted = letterbox(pixels, self._size)
        height, width = fitted.shape[:2]
        if self._even.shape == fitted.shape:
            return cast("U8", np.ascontiguousarray(fitted))
        self._even[:height, :width] = fitted
        self._even[height:, :width] = fitted[-1:]
        self._even[:, width:] = self._even[:, width - 1 : width]
        return self._even


def _add_h264(container: OutputContainer, size: tuple[int, int], fps: float) -> VideoStream:
    """An H.264 track in yuv420p, BT.709, limited range: what browsers, phones and editors expect."""
    rate = Fraction(fps).limit_denominator(1001) if fps > 0 else Fraction(30)
    stream = container.add_stream("libx264", rate=rate, options={**_X264, "g": str(max(1, round(2 * rate)))})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.thread_count = _ENCODER_THREADS
    context = stream.codec_context
    context.time_base = Fraction(1, TICKS_PER_SECOND)
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def _free_part(target: Path) -> tuple[Path, list[Path]]:
    """A name for the part of ``target`` that nothing has yet, and the parts that are there.

    They are recordings that a crash cut short, or another process is writing them: neither may be overwritten.
    """
    there: list[Path] = []
    part = target.with_name(target.name + ".part.mp4")
    while part.exists():
        there.append(part)
        part = target.with_name(f"{target.name}.part-{len(there) + 1}.mp4")
    return part, there


def _write_error(path: Path, error: Exception) -> SinkError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SinkError(
            f"the recording {path} is cut short: the disk is full", hint="free some space, then record again"
        )
    return SinkError(
        f"the recording {path} is cut short: {error}", hint="check that the folder is still there and may be written"
    )
