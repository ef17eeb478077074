"""Results as text: one JSON document, or a table whose columns stand under each other."""

import json
from collections.abc import Sequence
from typing import Any


def to_json(value: Any) -> str:
    """Return one JSON document."""
    return json.dumps(value, indent=2, allow_nan=False)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a table with columns of equal width, two spaces apart; the columns in `right` are right-aligned."""
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) if k in right else cell.ljust(width) for k, (cell, width) in enumerate(pairs))
        for pairs in (zip(row, widths, strict=True) for row in (header, *rows))
    ]
    return "\n".join(line.rstrip() for line in lines)


def plain_number(value: float, digits: int = 3) -> str:
    """Write a number in so many digits, thousands in full, and only far from one as a power of ten."""
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.6g}"
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
