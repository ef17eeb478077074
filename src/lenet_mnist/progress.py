"""How work that takes a while is shown."""


class Progress:
    """Shows lines of text, and work that begins, advances and ends. This one is silent; none changes a result."""

    def note(self, text: str) -> None:
        """Show one line that the user should know."""

    def begin(self, text: str, total: int | None) -> None:
        """Begin `text`, of `total` steps or bytes if that is known."""

    def advance(self, amount: int, text: str = "") -> None:
        """Advance by `amount` steps or bytes."""

    def end(self) -> None:
        """End what was begun."""
