"""What every picture is: a figure of Matplotlib that a notebook shows, also where nobody has imported pyplot."""

import io

from matplotlib import figure

_DOTS_ON_SCREEN = 90


class Figure(figure.Figure):
    """A figure that is drawn without pyplot, which keeps each of its own until it is closed."""

    def png(self, dots_per_inch: int) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=dots_per_inch)
        return picture.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png(_DOTS_ON_SCREEN)
