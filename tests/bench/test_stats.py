import pytest

from tests.bench.stats import Times, ratio, summarize


def test_times_are_summarized_in_milliseconds_whatever_their_order() -> None:
    hundredths = [number / 100 for number in range(101)]
    assert summarize(hundredths[::-1]) == Times(p50=500.0, p95=950.0, p99=990.0, most=1000.0)


def test_a_quantile_between_two_times_is_interpolated() -> None:
    assert summarize([0.010, 0.020]) == Times(p50=15.0, p95=19.5, p99=19.9, most=20.0)


def test_no_times_have_no_summary() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarize([])


def test_a_ratio_has_three_decimals() -> None:
    assert ratio(10, 3) == 3.333
