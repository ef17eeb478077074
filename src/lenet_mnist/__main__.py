"""`python -m lenet_mnist` is `lenet`."""

from lenet_mnist.cli.main import main

if __name__ == "__main__":
    main()
