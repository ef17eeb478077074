"""What `lenet verify` found, in words and in JSON."""

from dataclasses import asdict

from lenet_mnist.experiments.verification import Verified
from lenet_mnist.reporting.text import aligned, to_json


def as_text(verified: Verified) -> str:
    """Return one line a check."""
    rows = [("ok" if check.holds else "FAILED", check.what, check.seen) for check in verified.checks]
    return aligned(("", str(verified.run.path), "seen"), rows)


def as_json(verified: Verified) -> str:
    """Return the same as JSON."""
    return to_json({"run": str(verified.run.path), "checks": [asdict(check) for check in verified.checks]})
