"""`python -m lenet_mnist` is `lenet`."""

from lenet_mnist.cli import main

if __name__ == "__main__":
    main()
