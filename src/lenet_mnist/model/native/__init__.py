"""The network in C. This folder may be deleted as a whole: the torch engine remains."""
