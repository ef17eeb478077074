"""A trained network, used: on pictures of people's own, and outside of Python."""
