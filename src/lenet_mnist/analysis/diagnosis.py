"""What went wrong in a training, if anything did: causes, each with its evidence and its remedy.

Every cause has one function, which looks at what the run's files tell: the configuration, the histories, and what the
probe saw inside. The thresholds were set on trainings with seeds 0 to 2, broken on purpose and healthy ones, and scored
on seeds 3 to 5: scripts/measure_diagnosis.py, docs/diagnosis.md.
"""

from lenet_mnist.analysis import root_causes, signs
from lenet_mnist.analysis.findings import Finding, TrainingRecord


def diagnose(record: TrainingRecord) -> list[Finding]:
    """Return everything that is found to be wrong, the likeliest cause first. Nothing wrong found: an empty list.

    What lies at the root (weights, inputs, labels ...) explains the loss curve; the advice on the learning rate that
    the curve alone would give is then left out.
    """
    roots = [
        root_causes.starting_weights(record),
        root_causes.inputs(record),
        root_causes.dead_from_the_start(record),
        root_causes.weight_decay(record),
        root_causes.unmixed_batches(record),
        root_causes.momentum(record),
        root_causes.meaningless_labels(record),
        root_causes.wrong_labels(record),
    ]
    found = [
        *roots,
        signs.learning_rate(record) if not any(roots) else None,
        signs.vanishing_gradients(record),
        signs.dead_units(record),
        signs.stuck_at_guessing(record),
        signs.over_fitting(record),
        signs.stopped_too_early(record),
    ]
    return [finding for finding in found if finding is not None]
