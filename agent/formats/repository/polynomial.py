"""Irreducible polynomials over GF(2), of which each repository has one in its config.

Readers that cut files with Rabin fingerprints test it; for this writer it is the seed of its own chunker. A
polynomial is an integer, its bits the coefficients.
"""

import secrets

DEGREE = 53
"""The degree of restic's polynomials."""


def random_irreducible() -> int:
    while True:
        # Without its lowest bit it would be divisible by x.
        candidate = 1 << DEGREE | secrets.randbits(DEGREE) | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Return True when nothing but 1 and the polynomial divides it (Ben-Or's test)."""
    degree = polynomial.bit_length() - 1
    power = 2  # x
    for _ in range(degree // 2):
        power = _square(power, polynomial)
        if _gcd(polynomial, power ^ 2) != 1:
            return False
    return degree > 0


def _remainder(value: int, divisor: int) -> int:
    length = divisor.bit_length()
    while (excess := value.bit_length() - length) >= 0:
        value ^= divisor << excess
    return value


def _square(value: int, modulus: int) -> int:
    # Squaring over GF(2) puts a zero between the coefficients.
    spread = int("0".join(f"{value:b}"), 2)
    return _remainder(spread, modulus)


def _gcd(left: int, right: int) -> int:
    while right:
        left, right = right, _remainder(left, right)
    return left
