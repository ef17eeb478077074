"""The run directory, and what lies in it."""
