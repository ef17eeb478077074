"""LeNet trained in a page: `lenet lab`."""
