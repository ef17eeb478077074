"""One arm in a process of its own: reads requests, one JSON document a line, and answers each with another.

    python -m peers.worker ARM ARRAYS.npz THREADS

A request is a Setting, which starts a training, or null, which trains for one epoch. Between two requests the process
waits for its input and computes nothing.
"""

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module

import numpy as np

from peers.arm import Arrays, Setting

# An arm's module is imported in its own process only: the others' packages may not be there.
CLASSES = {
    "examples": ("peers.torch_arms", "Examples"),
    "plain": ("peers.torch_arms", "Plain"),
    "keras": ("peers.keras_arm", "Keras"),
    "jax": ("peers.jax_arm", "Jax"),
    "lenet-torch": ("peers.lenet_arms", "LenetTorch"),
    "lenet-native": ("peers.lenet_arms", "LenetNative"),
}


def main() -> None:
    name, arrays_path, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    module, class_name = CLASSES[name]
    arm = getattr(import_module(module), class_name)(Arrays(**np.load(arrays_path)), int(threads))
    print(json.dumps({package: import_module(package).__version__ for package in arm.packages}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        answer = asdict(arm.epoch()) if request is None else arm.start(Setting(**request))
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
