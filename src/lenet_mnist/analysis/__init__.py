"""Step 4 of the lecture: the analysis of performance."""
