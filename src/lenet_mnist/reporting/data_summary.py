"""What is in the data, in words and in JSON: classes, and images that are there twice."""

from collections.abc import Sequence
from dataclasses import asdict

from lenet_mnist.data.inspection import Survey
from lenet_mnist.data.sources import VerifiedFile
from lenet_mnist.errors import one_line
from lenet_mnist.reporting.text import aligned, to_json

_MOST_LEAKS = 10


def survey_text(files: Sequence[VerifiedFile], survey: Survey) -> str:
    """Say which files are the published ones, how many images each class has, and which images are equal."""
    rows = [
        [one_line(name), *(f"{counts[k]:,}" for counts in survey.counts.values())]
        for k, name in enumerate(survey.class_names)
    ]
    rows.append(["total", *(f"{sum(counts):,}" for counts in survey.counts.values())])
    repeated = ", ".join(f"{part} {number:,}" for part, number in survey.num_repeated.items())
    lines = [
        *(f"ok  {file.path}  {' x '.join(map(str, file.shape))}  sha256 {file.sha256}" for file in files),
        aligned(["class", *survey.counts], rows, right=range(1, len(rows[0]))),
        f"images that equal one before them: within {repeated}; across parts {len(survey.leaks):,}",
    ]
    for leak in survey.leaks[:_MOST_LEAKS]:
        earlier = f"{leak.earlier_part} image {leak.earlier_image}"
        lines.append(one_line(f"  {leak.part} image {leak.image} is {earlier}"))
    if len(survey.leaks) > _MOST_LEAKS:
        lines.append(f"  and {len(survey.leaks) - _MOST_LEAKS:,} more; --json names them all")
    return "\n".join([*lines, *(f"warning: {one_line(note)}" for note in survey.notes)])


def survey_json(files: Sequence[VerifiedFile], survey: Survey) -> str:
    """Return the same as JSON."""
    verified = [{"path": str(file.path), "shape": file.shape, "sha256": file.sha256} for file in files]
    return to_json({"files": verified, **asdict(survey)})
