"""Step 1 of the lecture: the architecture."""
