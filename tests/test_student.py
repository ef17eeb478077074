import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lenet_mnist.student import t_quantile

freedoms = st.integers(1, 1000) | st.floats(1, 1000)


@given(st.floats(0.001, 0.999), freedoms)
def test_it_is_scipys(probability: float, freedom: float) -> None:
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(freedoms)
def test_the_quantile_of_every_95_per_cent_interval_is_scipys(freedom: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


def test_it_is_that_of_students_table() -> None:
    assert [round(t_quantile(0.975, freedom), 3) for freedom in (1, 2, 4, 9, 29)] == [
        12.706,
        4.303,
        2.776,
        2.262,
        2.045,
    ]


@given(st.floats(1, 10_000))
def test_it_falls_to_that_of_the_normal_distribution(freedom: float) -> None:
    normal = stats.norm.ppf(0.975)
    assert normal < t_quantile(0.975, freedom)
    assert t_quantile(0.975, 10_000) == pytest.approx(normal, rel=2e-4)


@pytest.mark.parametrize(("probability", "freedom"), [(0, 1), (1, 1), (0.5, 0), (0.5, -1), (0.5, float("inf"))])
def test_what_has_no_quantile_is_refused(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="has no quantile"):
        t_quantile(probability, freedom)
