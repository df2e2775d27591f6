"""The 64 bits of the invisible mark: 32 bits of a session's number and the error correction that carries them.

A binary BCH code of length 63 that corrects 5 errors (generator polynomial of degree 27 over GF(64), primitive
polynomial x^6 + x + 1; Bose and Ray-Chaudhuri 1960) with an overall parity bit is a (64, 36) code of minimum distance
12. Four of its 36 bits are a format number, 0 so far, so its words for numbers of 32 bits are a linear (64, 32) code.
Chosen over repetition (two copies: distance 2) and over Reed-Muller (64, 22), because the detector decodes soft values:
ordered statistics of order 3 (Fossorier and Lin 1995, IEEE Trans. IT 41(5)) is then within a few tenths of a decibel of
the best that any decoder can do, in a millisecond.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BITS = 64
NUMBER_BITS = 32
_INFO, _CYCLE = 36, 63
_PRIMITIVE = 0b1000011
_ORDER = 3
Bits = NDArray[np.uint8]
F64 = NDArray[np.float64]


def encode(number: int) -> Bits:
    """The 64 bits (0 or 1) of a number of 32 bits. Raises ValueError for a larger or negative one."""
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"{number} has more than {NUMBER_BITS} bits")
    info = np.array([number >> k & 1 for k in range(NUMBER_BITS)], np.uint8)
    return np.asarray(info @ _generator() % 2, np.uint8)


def decode(soft: F64) -> tuple[int, Bits, float]:
    """The most likely number for ``soft`` (64,), positive where a bit is 1, its 64 bits, and its lead: by how much they
    agree better with ``soft`` than those of any other number that was tried. There is always one.
    """
    basis, flips = _most_reliable_basis(np.abs(soft)), _flips()
    places = np.argmax(basis == 1, axis=1)  # each row's own pivot, by construction its first 1 in order of reliability
    order = np.argsort(-np.abs(soft), kind="stable")
    ordered = soft[order]
    first = (ordered[places] > 0).astype(np.uint8)
    words = (first @ basis + flips @ basis) % 2
    agreement = signs(words) @ ordered
    second, first_place = np.argpartition(agreement, -2)[-2:]
    best = words[first_place]
    word, lead = np.zeros(BITS, np.uint8), float(agreement[first_place] - agreement[second])
    word[order] = best
    return sum(int(bit) << k for k, bit in enumerate(word[:NUMBER_BITS])), word, lead


def signs(word: Bits) -> F64:
    """+1 for a bit of 1, -1 for 0."""
    return 2.0 * word.astype(np.float64) - 1.0


def _most_reliable_basis(reliability: F64) -> Bits:
    """(32, 64) generator with its columns in falling reliability, reduced: row k alone has a 1 at its pivot."""
    rows = _generator()[:, np.argsort(-reliability, kind="stable")].copy()
    done = 0
    for column in range(BITS):
        found = np.flatnonzero(rows[done:, column])
        if not len(found):
            continue
        pivot = done + int(found[0])
        rows[[done, pivot]] = rows[[pivot, done]]
        others = rows[:, column].copy()
        others[done] = 0
        rows ^= np.outer(others, rows[done])
        done += 1
        if done == NUMBER_BITS:
            break
    return rows


@lru_cache(maxsize=1)
def _flips() -> Bits:
    """Every way to change at most three of 32 bits, as rows."""
    chosen = [places for count in range(_ORDER + 1) for places in combinations(range(NUMBER_BITS), count)]
    rows = np.zeros((len(chosen), NUMBER_BITS), np.uint8)
    for row, places in zip(rows, chosen, strict=True):
        row[list(places)] = 1
    return rows


@lru_cache(maxsize=1)
def _generator() -> Bits:
    """(32, 64): the number's bits first, then four of the format, 27 of the BCH code, one of parity."""
    polynomial = _bch_polynomial()
    rows = np.zeros((NUMBER_BITS, BITS), np.uint8)
    for k in range(NUMBER_BITS):
        # Systematic: x^(27 + place) and its remainder modulo the generator polynomial.
        word = 1 << (_CYCLE - 1 - k)
        word |= _remainder(word, polynomial)
        rows[k, :_CYCLE] = [word >> (_CYCLE - 1 - place) & 1 for place in range(_CYCLE)]
        rows[k, _CYCLE] = rows[k, :_CYCLE].sum() % 2
    return rows


def _remainder(value: int, divisor: int) -> int:
    """Of polynomials over GF(2), as the bits of integers."""
    degree = divisor.bit_length()
    while value.bit_length() >= degree:
        value ^= divisor << (value.bit_length() - degree)
    return value


def _bch_polynomial() -> int:
    """Product of the minimal polynomials of a, a^3, a^5, a^7 and a^9, with ``a`` a root of the primitive polynomial."""
    powers = [1]
    for _ in range(_CYCLE - 1):
        value = powers[-1] << 1
        powers.append(value ^ _PRIMITIVE if value >> 6 else value)
    logarithm = {value: k for k, value in enumerate(powers)}

    def times(a: int, b: int) -> int:
        return powers[(logarithm[a] + logarithm[b]) % _CYCLE] if a and b else 0

    product = 1
    for root in (1, 3, 5, 7, 9):
        conjugates = {root * 2**k % _CYCLE for k in range(6)}
        minimal = [1]  # coefficients in GF(64), lowest first; they end up in GF(2)
        for exponent in conjugates:
            lower = [times(c, powers[exponent]) for c in minimal]
            minimal = [a ^ b for a, b in zip([*lower, 0], [0, *minimal], strict=True)]
        factor = sum(bit << k for k, bit in enumerate(minimal))
        total = 0
        for k in range(product.bit_length()):
            if product >> k & 1:
                total ^= factor << k
        product = total
    return product
