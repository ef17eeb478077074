"""Student's t: how far the mean of a few draws may lie from the truth.

Sources: Student, "The probable error of a mean", Biometrika 6, 1908; NIST Digital Library of Mathematical Functions,
https://dlmf.nist.gov/8.17, for the incomplete beta function.
"""

import math

_MAX_TERMS = 10_000
_TINY = 1e-300  # stands for a zero in a denominator


def t_quantile(probability: float, freedom: float) -> float:
    """Return the t below which a draw of Student's distribution lies with `probability`.

    `freedom`, the degrees of freedom, need not be whole. Where `probability` lies between 0.001 and 0.999, 12 digits
    are right up to 1,000 of them, and 10 digits up to 10,000.

    Raises: ValueError if `probability` does not lie between 0 and 1, or there is no freedom.
    """
    if not (0 < probability < 1 and 0 < freedom < math.inf):
        raise ValueError(f"Student's t has no quantile of {probability} for {freedom} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while _tail(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # down to neighbouring floats
        low, high = (middle, high) if _tail(middle, freedom) > 1 - probability else (low, middle)
    return high


def _tail(t: float, freedom: float) -> float:
    """Return the probability of a draw above `t`, which is not negative. Source: DLMF 8.17.4."""
    a, b = freedom / 2, 0.5
    x, rest = freedom / (freedom + t * t), t * t / (freedom + t * t)
    if rest == 0:
        return 0.5
    log_front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    if x < (a + 1) / (a + b + 2):  # else the fraction converges slowly, and its mirror image fast
        return 0.5 * math.exp(log_front) / a * _beta_fraction(x, a, b)
    return 0.5 * (1 - math.exp(log_front) / b * _beta_fraction(rest, b, a))


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method. Source: DLMF 8.17.22."""
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or _TINY)
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for coefficient in (even, odd):
            d = 1 / ((1 + coefficient * d) or _TINY)
            c = (1 + coefficient / c) or _TINY
            value *= c * d
        if abs(value - before) <= 1e-16 * abs(value):
            break
    return value
