"""What `lenet export` wrote, in words and in JSON."""

from lenet_mnist.inference.export import Exported, ExportFormat
from lenet_mnist.provenance import typed
from lenet_mnist.reporting.text import to_json


def export_text(exported: Exported) -> str:
    """Return the path, and below it what was checked, or how to open it."""
    lines = [str(exported.path)]
    if exported.agreement is not None and exported.figures is not None:
        version = exported.figures["versions"]["onnxruntime"]
        lines.append(f"checked with ONNX Runtime {version}: {exported.agreement}")
    if exported.export_format is ExportFormat.TENSORBOARD:
        lines.append(f"next  tensorboard --logdir {typed(exported.path)}")
    return "\n".join(lines)


def export_json(exported: Exported) -> str:
    """Return the same as JSON, with all figures of the check."""
    return to_json({"format": exported.export_format, "path": str(exported.path), "check": exported.figures})
