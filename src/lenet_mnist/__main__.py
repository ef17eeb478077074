"""`python -m lenet_mnist` is `lenet`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current directory, of which nothing is imported
    from lenet_mnist.cli.main import main

    main()
