"""Step 3 of the lecture, its last question: how to set the learning rate."""
