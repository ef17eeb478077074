"""Step 2 of the lecture: the data. What else knows MNIST or its 28 pixels is in docs/architecture.md."""
