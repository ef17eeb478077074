"""Step 2 of the lecture: the data. Nothing outside this package knows MNIST, its 10 classes or its 28 pixels."""
