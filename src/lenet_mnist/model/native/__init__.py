"""The convolutional block in C. This folder may be deleted whole: the torch engine remains."""
