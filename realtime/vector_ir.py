"""Vector instructions for the kernels: the few loop bodies that LLVM does not vectorise by itself.

Sampling a picture along a slanted line, three bytes a pixel, defeats the vectoriser: it is two loads per pixel at
addresses of their own, then arithmetic on neighbouring bytes. Here such a body is written as vector code for N pixels
at a time, in LLVM's portable terms (no instruction of any one processor), and numba puts it into the loop that calls
it. Plain loops of the same arithmetic stand in the tests, and the benchmark says what it gains: 3 to 4 times.

Each step below (``paste_16``, ``crop_16`` and so on) is called from kernels like a function. Nothing checks addresses:
positions are clamped to limits that the calling kernel gives, and byte offsets are the kernel's to prove.

numba's cache on disk looks at the file of the kernel and not at this one: after a change here, change or touch the
kernels' files too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I8, I16, I32, I64, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
Value = Any
"""A value or pointer of the code that is being built; llvmlite has no types for mypy."""


class Code:
    """llvmlite's builder with the handful of vector idioms that the steps share."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def const(self, kind: Any, value: int, lanes: int) -> Value:
        """``lanes`` times the same number."""
        return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)

    def number(self, value: int) -> Value:
        """An address part."""
        return ir.Constant(I64, value)

    def shuffle(self, first: Value, second: Value, places: Sequence[int]) -> Value:
        """Lanes of ``first``, then ``second``, in the order of ``places``."""
        return self.b.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(places)), list(places)))

    def pick(self, vector: Value, places: Sequence[int]) -> Value:
        """Lanes of one vector."""
        return self.shuffle(vector, vector, places)

    def splat(self, value: Value, lanes: int) -> Value:
        """One number in every lane."""
        one = self.b.insert_element(
            ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, ir.Constant(I32, 0)
        )
        return self.pick(one, [0] * lanes)

    def ramp(self, start: Value, step: Value, lanes: int) -> Value:
        """``start + k * step`` (32 bits) in lane k."""
        k = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return self.b.add(self.splat(start, lanes), self.b.mul(k, self.splat(step, lanes)))

    def clamp(self, vector: Value, high: Value, lanes: int) -> Value:
        """Signed 32-bit lanes into 0..``high``."""
        zero, top = self.const(I32, 0, lanes), self.splat(high, lanes)
        floored = self.b.select(self.b.icmp_signed("<", vector, zero), zero, vector)
        return self.b.select(self.b.icmp_signed(">", floored, top), top, floored)

    def load(self, pointer: Value, offset: Value, kind: Any) -> Value:
        """A value of ``kind`` at a byte offset; any alignment."""
        address = self.b.bitcast(self.b.gep(pointer, [offset]), kind.as_pointer())
        return self.b.load(address, align=1)

    def store(self, value: Value, pointer: Value, offset: Value) -> None:
        """``value`` at a byte offset; any alignment."""
        self.b.store(value, self.b.bitcast(self.b.gep(pointer, [offset]), value.type.as_pointer()), align=1)

    def gather(self, pointer: Value, offsets: Value, lanes: int) -> Value:
        """8 bytes from each of the byte ``offsets`` (32 bits, not negative)."""
        found = ir.Constant(ir.VectorType(I64, lanes), ir.Undefined)
        wide = self.b.zext(offsets, ir.VectorType(I64, lanes))
        for k in range(lanes):
            at = self.b.extract_element(wide, ir.Constant(I32, k))
            found = self.b.insert_element(found, self.load(pointer, at, I64), ir.Constant(I32, k))
        return found

    def weights(self, fraction: Value, lanes: int) -> tuple[Value, Value]:
        """Bilinear weights (of the nearer, of the farther neighbour; they add up to 256), four 16-bit lanes a pixel."""
        far = self.pick(self.b.trunc(fraction, ir.VectorType(I16, lanes)), [k // 4 for k in range(4 * lanes)])
        return self.b.sub(self.const(I16, 256, 4 * lanes), far), far

    def mix(self, near: Value, far: Value, weight: tuple[Value, Value], lanes: int) -> Value:
        """(near * weight + far * weight + 128) / 256 in 16-bit lanes."""
        b, n = self.b, 4 * lanes
        total = b.add(b.add(b.mul(near, weight[0]), b.mul(far, weight[1])), self.const(I16, 128, n))
        return b.lshr(total, self.const(I16, 8, n))

    def mix_pairs(self, pairs: Value, weight: tuple[Value, Value], lanes: int) -> Value:
        """Mix the two bytes of each 16-bit lane."""
        n = 4 * lanes
        near = self.b.and_(pairs, self.const(I16, 255, n))
        return self.mix(near, self.b.lshr(pairs, self.const(I16, 8, n)), weight, lanes)

    def blend(self, under: Value, over: Value, alpha: Value, lanes: int) -> Value:
        """(under * (255 - alpha) + over * alpha) / 255, rounded exactly, in 16-bit lanes."""
        b = self.b
        total = b.add(b.mul(under, b.sub(self.const(I16, 255, lanes), alpha)), b.mul(over, alpha))
        total = b.add(total, self.const(I16, 128, lanes))
        return b.lshr(b.add(total, b.lshr(total, self.const(I16, 8, lanes))), self.const(I16, 8, lanes))


Build = Callable[[Code, Sequence[Value]], "Value | None"]
"""Emits a step's code. Arguments: arrays as pointers to their first byte, numbers as 64-bit integers."""


def _step(build: Build, names: str, returns: Any = types.void) -> Callable[..., int]:
    """A function that kernels can call with the arguments ``names`` and whose code ``build`` writes."""

    def typing(context: Any, *arguments: Any) -> tuple[Any, Callable[..., Value]]:
        del context
        kinds = [kind if isinstance(kind, types.Array) else types.int64 for kind in arguments]

        def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:
            code = Code(builder)

            def flat(kind: Any, value: Value) -> Value:
                if not isinstance(kind, types.Array):
                    return value
                return builder.bitcast(context.make_array(kind)(context, builder, value).data, I8.as_pointer())

            result = build(code, [flat(kind, value) for kind, value in zip(signature.args, values, strict=True)])
            return context.get_dummy_value() if result is None else result

        return returns(*kinds), codegen

    typing.__name__ = build.__name__
    # numba wants to see every argument by name.
    parameters = [Parameter(name, Parameter.POSITIONAL_ONLY) for name in ("context", *names.split())]
    typing.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return cast("Callable[..., int]", intrinsic(typing))


def _paste(lanes: int) -> Build:
    """``lanes`` pixels of :func:`paste.paste_table`."""

    def paste_step(code: Code, values: Sequence[Value]) -> Value:
        b = code.b
        table, pitch, last_u, last_v, u, v, du, dv, dst, offset, count = values
        wide = ir.VectorType(I32, lanes)

        def positions(start: Value, step: Value, last: Value) -> tuple[Value, Value]:
            """Whole and 8-bit fraction of each position, clamped; 16 bits behind the point within one step."""
            sixteen = code.number(16)
            run = code.ramp(b.trunc(b.ashr(start, sixteen), I32), b.trunc(b.ashr(step, sixteen), I32), lanes)
            run = code.clamp(run, b.trunc(last, I32), lanes)
            fraction = b.and_(b.lshr(run, code.const(I32, 8, lanes)), code.const(I32, 255, lanes))
            return b.lshr(run, code.const(I32, 16, lanes)), fraction

        column, fu = positions(u, du, last_u)
        row, fv = positions(v, dv, last_v)
        at = b.add(b.mul(row, code.splat(b.trunc(pitch, I32), lanes)), b.shl(column, code.const(I32, 3, lanes)))
        four = ir.VectorType(I16, 4 * lanes)
        top = b.bitcast(code.gather(table, at, lanes), four)
        low = b.bitcast(code.gather(b.gep(table, [pitch]), at, lanes), four)
        across, down = code.weights(fu, lanes), code.weights(fv, lanes)
        pixel = code.mix(code.mix_pairs(top, across, lanes), code.mix_pairs(low, across, lanes), down, lanes)
        mask = b.trunc(code.pick(pixel, [4 * k + 3 for k in range(lanes)]), ir.VectorType(I16, lanes))
        index = ir.Constant(wide, list(range(lanes)))
        wanted = b.icmp_signed("<", index, code.splat(b.trunc(count, I32), lanes))
        mask = b.select(wanted, mask, code.const(I16, 0, lanes))
        bytes3, words3 = ir.VectorType(I8, 3 * lanes), ir.VectorType(I16, 3 * lanes)
        colour = code.pick(pixel, [4 * (k // 3) + k % 3 for k in range(3 * lanes)])
        alpha = code.pick(mask, [k // 3 for k in range(3 * lanes)])
        under = b.zext(code.load(dst, offset, bytes3), words3)
        code.store(b.trunc(code.blend(under, colour, alpha, 3 * lanes), bytes3), dst, offset)
        covered = b.bitcast(b.icmp_unsigned("!=", mask, code.const(I16, 0, lanes)), ir.IntType(lanes))
        return b.zext(b.ctpop(covered), I64)

    return paste_step


_PASTE = "table pitch last_u last_v u v du dv dst at wanted"
paste_16 = _step(_paste(16), _PASTE, types.int64)
"""Samples 16 pixels of a packed table (pairs, see :func:`paste.pack`) along a line and blends the first ``wanted`` into
dst; the others' bytes are read and written as they were. ``pitch``: bytes of a table row; ``last_u``, ``last_v``: 16.16
fixed point, positions are clamped to them; ``u``, ``v``, ``du``, ``dv``: 32.32; ``at``: byte offset in dst. Returns how
many took any of the swap."""
paste_1 = _step(_paste(1), _PASTE, types.int64)
"""The same for one pixel: where 16 would reach beyond the end of the frame."""


def _crop(lanes: int) -> Build:
    """One tap of ``lanes`` pixels of :func:`crop.warp_crop`."""

    def crop_step(code: Code, values: Sequence[Value]) -> None:
        b = code.b
        frame, pitch, last_u, last_v, end, u, v, du, dv, sums = values

        def positions(start: Value, step: Value, last: Value) -> tuple[Value, Value]:
            """The nearer pixel, never the last one of its row or column, and how far beyond it: 0..256."""
            run = code.clamp(code.ramp(b.trunc(start, I32), b.trunc(step, I32), lanes), b.trunc(last, I32), lanes)
            cell = b.lshr(run, code.const(I32, 16, lanes))
            before = code.splat(b.sub(b.trunc(b.lshr(last, code.number(16)), I32), ir.Constant(I32, 1)), lanes)
            cell = b.select(b.icmp_signed(">", cell, before), before, cell)
            beyond = b.sub(run, b.shl(cell, code.const(I32, 16, lanes)))
            return cell, b.lshr(beyond, code.const(I32, 8, lanes))

        column, fu = positions(u, du, last_u)
        row, fv = positions(v, dv, last_v)
        at = b.add(b.mul(row, code.splat(b.trunc(pitch, I32), lanes)), b.mul(column, code.const(I32, 3, lanes)))
        bytes8, words4 = ir.VectorType(I8, 8 * lanes), ir.VectorType(I16, 4 * lanes)
        # B G R B' G' R' . . -> B B' G G' R R' . .
        pairs = [8 * (k // 8) + (0, 3, 1, 4, 2, 5, 6, 7)[k % 8] for k in range(8 * lanes)]

        def taps(offsets: Value) -> Value:
            """Two neighbours of each pixel.

            Eight bytes from the last pixels would end beyond the frame: there they are read earlier and shifted down.
            """
            last = code.splat(b.trunc(end, I32), lanes)
            safe = b.select(b.icmp_signed(">", offsets, last), last, offsets)
            missing = b.zext(b.shl(b.sub(offsets, safe), code.const(I32, 3, lanes)), ir.VectorType(I64, lanes))
            found = b.bitcast(b.lshr(code.gather(frame, safe, lanes), missing), bytes8)
            return b.bitcast(code.pick(found, pairs), words4)

        across, down = code.weights(fu, lanes), code.weights(fv, lanes)
        top = code.mix_pairs(taps(at), across, lanes)
        low = code.mix_pairs(taps(b.add(at, code.splat(b.trunc(pitch, I32), lanes))), across, lanes)
        pixel = code.mix(top, low, down, lanes)
        zero = code.number(0)
        code.store(b.add(code.load(sums, zero, words4), pixel), sums, zero)

    return crop_step


def _crop_end(lanes: int) -> Build:
    """Sums of ``lanes`` pixels into their mean."""

    def crop_end_step(code: Code, values: Sequence[Value]) -> None:
        b = code.b
        sums, share, dst, at = values
        words4, wide3 = ir.VectorType(I16, 4 * lanes), ir.VectorType(I32, 3 * lanes)
        zero = code.number(0)
        total = code.load(sums, zero, words4)
        code.store(code.const(I16, 0, 4 * lanes), sums, zero)
        colour = b.zext(code.pick(total, [4 * (k // 3) + k % 3 for k in range(3 * lanes)]), wide3)
        mean = b.add(b.mul(colour, code.splat(b.trunc(share, I32), 3 * lanes)), code.const(I32, 1 << 15, 3 * lanes))
        mean = b.lshr(mean, code.const(I32, 16, 3 * lanes))
        code.store(b.trunc(mean, ir.VectorType(I8, 3 * lanes)), dst, at)

    return crop_end_step


def _halve(lanes: int) -> Build:
    """``lanes`` pixels of :func:`crop.halve`."""

    def halve_step(code: Code, values: Sequence[Value]) -> None:
        b = code.b
        frame, at, pitch, dst, to = values
        bytes6, words6 = ir.VectorType(I8, 6 * lanes), ir.VectorType(I16, 6 * lanes)
        upper = b.zext(code.load(frame, at, bytes6), words6)
        total = b.add(upper, b.zext(code.load(frame, b.add(at, pitch), bytes6), words6))
        left = [6 * (k // 3) + k % 3 for k in range(3 * lanes)]
        total = b.add(code.pick(total, left), code.pick(total, [k + 3 for k in left]))
        mean = b.lshr(b.add(total, code.const(I16, 2, 3 * lanes)), code.const(I16, 2, 3 * lanes))
        code.store(b.trunc(mean, ir.VectorType(I8, 3 * lanes)), dst, to)

    return halve_step


halve_16, halve_1 = (_step(_halve(lanes), "frame at pitch dst to") for lanes in (16, 1))
"""The means of 16 (1) blocks of 2 x 2 frame pixels; ``at`` and ``to`` are byte offsets, ``pitch`` is the frame's."""

_CROP, _CROP_END = "frame pitch last_u last_v end u v du dv sums", "sums share dst at"
crop_16 = _step(_crop(16), _CROP)
"""Adds one bilinear sample for each of 16 crop pixels to ``sums`` (64,) uint16: B, G, R and a lane of no meaning.
``pitch``: bytes of a frame row; ``last_u``, ``last_v``: the last column and row, ``u``, ``v``, ``du``, ``dv``: all
16.16 and below 2**31 in every lane; ``end``: bytes of the frame - 8. The frame has 2 rows and 4 columns or more."""
crop_end_16 = _step(_crop_end(16), _CROP_END)
"""``sums`` * share / 65536, rounded, to dst at a byte offset; clears ``sums``."""
crop_1, crop_end_1 = _step(_crop(1), _CROP), _step(_crop_end(1), _CROP_END)
"""The same for one pixel: at the end of dst."""

_LUMA_OFFSET = 16 * 256 + 128
"""Limited range begins at 16; the other half rounds."""


def _planes(lanes: int, layout: str) -> Build:
    """``lanes`` pixels of one (UYVY) or two rows of :func:`planes.convert`."""
    half = lanes // 2

    def planes_step(code: Code, values: Sequence[Value]) -> None:
        b = code.b
        frame, at, pitch, matrix, out, at_luma, luma_pitch, at_blue, at_red = values
        bytes1 = ir.VectorType(I8, lanes)

        def channels(offset: Value) -> list[Value]:
            packed = code.load(frame, offset, ir.VectorType(I8, 3 * lanes))
            words = ir.VectorType(I16, lanes)
            return [b.zext(code.pick(packed, [3 * k + c for k in range(lanes)]), words) for c in range(3)]

        def weighted(parts: Sequence[Value], row: int, offset: int, count: int) -> Value:
            total = code.const(I16, offset, count)
            for c, part in enumerate(parts):
                factor = code.load(matrix, code.number(2 * (3 * row + c)), I16)
                total = b.add(total, b.mul(part, code.splat(factor, count)))
            return total

        def luma(parts: Sequence[Value]) -> Value:
            return b.trunc(b.lshr(weighted(parts, 0, _LUMA_OFFSET, lanes), code.const(I16, 8, lanes)), bytes1)

        rows = [channels(at)] if layout == "UYVY" else [channels(at), channels(b.add(at, pitch))]
        even, odd = list(range(0, lanes, 2)), list(range(1, lanes, 2))
        means = []
        for parts in zip(*rows, strict=True):
            total = parts[0] if len(parts) == 1 else b.add(parts[0], parts[1])
            pair = b.add(code.pick(total, even), code.pick(total, odd))
            rounding, shift = (1, 1) if len(parts) == 1 else (2, 2)
            means.append(b.lshr(b.add(pair, code.const(I16, rounding, half)), code.const(I16, shift, half)))

        def chroma(row: int) -> Value:
            level = b.ashr(weighted(means, row, 128, half), code.const(I16, 8, half))
            return b.trunc(b.add(level, code.const(I16, 128, half)), ir.VectorType(I8, half))

        blue, red = chroma(1), chroma(2)
        lumas = [luma(parts) for parts in rows]
        both = list(range(lanes))
        if layout == "UYVY":
            chromas = code.shuffle(blue, red, [k // 2 + half * (k % 2) for k in both])
            order = [k // 2 + lanes * (k % 2) for k in range(2 * lanes)]
            code.store(code.shuffle(chromas, lumas[0], order), out, at_luma)
            return
        code.store(lumas[0], out, at_luma)
        code.store(lumas[1], out, b.add(at_luma, luma_pitch))
        if layout == "NV12":
            code.store(code.shuffle(blue, red, [k // 2 + half * (k % 2) for k in both]), out, at_blue)
        else:
            code.store(blue, out, at_blue)
            code.store(red, out, at_red)

    return planes_step


_PLANES = "frame at pitch matrix out at_luma luma_pitch at_blue at_red"
i420_32, i420_2 = _step(_planes(32, "I420"), _PLANES), _step(_planes(2, "I420"), _PLANES)
"""32 (2) columns of two BGR rows into Y, U and V; all positions are byte offsets. ``matrix``: (3, 3) int16."""
nv12_32, nv12_2 = _step(_planes(32, "NV12"), _PLANES), _step(_planes(2, "NV12"), _PLANES)
uyvy_32, uyvy_2 = _step(_planes(32, "UYVY"), _PLANES), _step(_planes(2, "UYVY"), _PLANES)
"""One row; ``at_luma`` is where its bytes go."""


def _mark(lanes: int) -> Build:
    """``lanes`` pixels of :func:`mark.add_pattern`."""

    def mark_step(code: Code, values: Sequence[Value]) -> None:
        b, n = code.b, 3 * lanes
        frame, at, tile, place = values
        words = ir.VectorType(I16, n)
        added = b.sext(code.load(tile, place, ir.VectorType(I8, lanes)), ir.VectorType(I16, lanes))
        total = b.add(
            b.zext(code.load(frame, at, ir.VectorType(I8, n)), words), code.pick(added, [k // 3 for k in range(n)])
        )
        zero, top = code.const(I16, 0, n), code.const(I16, 255, n)
        total = b.select(b.icmp_signed("<", total, zero), zero, total)
        total = b.select(b.icmp_signed(">", total, top), top, total)
        code.store(b.trunc(total, ir.VectorType(I8, n)), frame, at)

    return mark_step


mark_16, mark_1 = _step(_mark(16), "frame at tile place"), _step(_mark(1), "frame at tile place")
"""Adds 16 (1) signed bytes of ``tile`` to as many BGR pixels, the same to each colour, clipped to 0..255."""
