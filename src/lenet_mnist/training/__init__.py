"""Step 3 of the lecture: training."""
