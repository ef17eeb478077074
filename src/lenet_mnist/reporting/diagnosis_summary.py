"""What a diagnosis says, in words and in JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from lenet_mnist.experiments.diagnosis import Diagnosis
from lenet_mnist.reporting.summaries import advice_lines, aligned, to_json


def diagnosis_text(diagnoses: Sequence[Diagnosis]) -> str:
    """Say what one training looks like, why, and what to do; of several, a line each."""
    if len(diagnoses) == 1:
        return "\n".join(advice_lines(diagnoses[0]))
    rows = [(d.activation.value, f"{d.lr:.3g}", d.advice.verdict, d.advice.direction) for d in diagnoses]
    return aligned(("activation", "learning rate", "the loss", "advice"), rows, right=(1,))


def diagnosis_json(diagnoses: Sequence[Diagnosis]) -> str:
    """Return the same as JSON."""
    return to_json({"trainings": [asdict(diagnosis) for diagnosis in diagnoses]})
