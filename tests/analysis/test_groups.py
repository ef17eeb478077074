"""Which trainings are a group, and what it is called."""

from lenet_mnist.analysis.groups import groups_of, letter_of, names_of

RELU = {
    "model.activation": "relu",
    "data.limit_train": None,
    "training.learning_rate": 0.04,
    "training.max_epochs": 8,
    "training.batch_size": 64,
}
SIGMOID = {**RELU, "model.activation": "sigmoid", "training.learning_rate": 0.2}
SMALL = {**RELU, "data.limit_train": 11_000, "training.max_epochs": 1, "training.batch_size": 1024}


def test_equal_settings_are_one_group_in_the_order_of_their_first() -> None:
    assert groups_of([SIGMOID, RELU, dict(SIGMOID), dict(RELU)]) == [[0, 2], [1, 3]]
    assert [letter_of(number) for number in (0, 25, 26)] == ["A", "Z", "A2"]


def test_names_say_what_differs_and_nothing_else() -> None:
    assert names_of([RELU, SIGMOID]) == ["relu, lr 0.04", "sigmoid, lr 0.2"]
    assert names_of([RELU]) == ["relu, lr 0.04"]
    small = "limit_train 11,000, 1 epoch, batch_size 1,024"
    assert names_of([RELU, SMALL]) == ["limit_train all, 8 epochs, batch_size 64", small]
    near = [{**RELU, "training.learning_rate": lr} for lr in (0.04, 0.040001, 1e-6)]
    assert names_of(near) == ["lr 0.04", "lr 0.040001", "lr 1e-06"]
