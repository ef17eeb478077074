"""Pictures and screens. A leaf: nothing below depends on it.

Pictures are ours, whatever somebody has set for their own: matplotlib reads no settings, and its advice reaches nobody.
"""

import logging
import os


def _leave_settings_alone() -> None:
    """Let matplotlib find no backend and no matplotlibrc when it is imported."""
    os.environ.pop("MPLBACKEND", None)
    os.environ["MATPLOTLIBRC"] = os.devnull
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if os.path.lexists("matplotlibrc"):  # in the current directory: that would come first
        exists = os.path.exists
        os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
        try:
            import matplotlib  # noqa: F401
        finally:
            os.path.exists = exists


_leave_settings_alone()
