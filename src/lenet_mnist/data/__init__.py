"""Step 2 of the lecture: the data. docs/architecture.md lists what else knows MNIST or its 28 pixels."""
