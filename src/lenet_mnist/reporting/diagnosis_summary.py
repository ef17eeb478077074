"""What a diagnosis says, in words and in JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lenet_mnist.analysis.findings import Finding
from lenet_mnist.experiments.diagnosis import Diagnosis, TrialAdvice
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.text import aligned, to_json
from lenet_mnist.tuning.advice import Direction


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Say what is wrong with a training, why, and what to do; or that nothing was found."""
    lines = findings_lines(diagnosis)
    if not lines:
        advice, config = diagnosis.advice, typed(diagnosis.run.config_path)
        lines = ["nothing wrong found", *(f"  {each}" for each in advice.evidence)]
        if advice.direction is Direction.UNKNOWN:
            lines.append(f"  to judge the learning rate {diagnosis.lr:.3g}: lenet lr-sweep --config {config}")
    if diagnosis.unfinished is not None:
        lines = [f"unfinished: {diagnosis.unfinished}", "so far:", *lines]
    return "\n".join(lines)


def findings_lines(diagnosis: Diagnosis) -> list[str]:
    """Return all findings, line by line."""
    lines = [line for finding in diagnosis.findings for line in _finding_lines(diagnosis, finding)]
    return lines if diagnosis.caveat is None else [*lines, diagnosis.caveat]


def _finding_lines(diagnosis: Diagnosis, finding: Finding) -> list[str]:
    """Return one finding, line by line."""
    lines = [f"{finding.cause}: {finding.headline}", *(f"  because {each}" for each in finding.evidence)]
    lines.append(f"  what to do: {finding.remedy}")
    command = diagnosis.next_command(finding)
    return lines if command is None else [*lines, f"  next: {command}"]


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """Return the same as JSON."""
    return to_json({"run": str(diagnosis.run.path), **diagnosis_dict(diagnosis)})


def diagnosis_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the same as plain values."""
    findings = [asdict(each) | {"next_command": diagnosis.next_command(each)} for each in diagnosis.findings]
    return {
        "unfinished": diagnosis.unfinished,
        "findings": findings,
        "caveat": diagnosis.caveat,
        "advice": asdict(diagnosis.advice),
    }


def sweep_text(advised: Sequence[TrialAdvice]) -> str:
    """Say what each curve of a sweep looks like, and what it asks for, a line each."""
    rows = [
        (each.activation.value, f"{each.lr:.3g}", str(each.seed), each.advice.verdict, each.advice.direction)
        for each in advised
    ]
    return aligned(("activation", "learning rate", "seed", "the loss", "advice"), rows, right=(1, 2))


def sweep_json(advised: Sequence[TrialAdvice]) -> str:
    """Return the same as JSON."""
    return to_json({"trainings": [asdict(each) for each in advised]})
