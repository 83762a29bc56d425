import time
from math import log

import numpy as np
import pytest

from index.structure import NAMES, describe, describe_all
from index.types import Floats


def named(**numbers: float) -> Floats:
    """Those that are not given are 0."""
    assert set(numbers) <= set(NAMES)
    return np.array([numbers.get(name, 0) for name in NAMES], np.float32)


def test_the_numbers_come_in_the_order_of_their_names() -> None:
    """24 characters; words is, 3, 5, twice, 7, yes, yes; numbers 3.5 and 7; symbols `.`, `?` and `,`."""
    expected = {
        "length": log(25),
        "words": log(8),
        "word_length": 16 / 7,
        "distinct_words": 6 / 7,
        "lines": log(2),
        "questions": log(2),
        "symbols": 3 / 24,
        "commas": log(2),
        "digits": 3 / 24,
        "numbers": log(3),
        "decimals": log(2),
        "multiples": log(2),
    }
    assert tuple(expected) == NAMES
    np.testing.assert_allclose(describe("Is 3.5 twice 7?\nYes, yes"), list(expected.values()), rtol=1e-6)


def test_an_empty_text_has_nothing() -> None:
    np.testing.assert_array_equal(describe(""), named())


def test_blanks_have_length_and_lines_alone() -> None:
    np.testing.assert_allclose(describe(" \n\t\n"), named(length=log(5), lines=log(3)), rtol=1e-6)


def test_characters_are_counted_not_their_bytes() -> None:
    """19 characters, 24 bytes."""
    expected = named(length=log(20), words=log(3), word_length=7, distinct_words=1, symbols=2 / 19, commas=log(2))
    np.testing.assert_allclose(describe("Übersetze 🙂, bitte!"), expected, rtol=1e-6)


def test_half_of_a_character_is_one_like_any_other() -> None:
    np.testing.assert_allclose(
        describe("a\ud800b"), named(length=log(4), words=log(3), word_length=1, distinct_words=1), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "numbers", "decimals"),
    [("1,000,000", 1, 0), ("1.2.3", 1, 1), ("v1.5 and 2.25", 2, 2), ("7. Next", 1, 0), ("10 20 30", 3, 0), ("x", 0, 0)],
)
def test_a_number_is_one_with_its_commas_and_points(text: str, numbers: int, decimals: int) -> None:
    found = dict(zip(NAMES, describe(text), strict=True))
    assert (found["numbers"], found["decimals"]) == pytest.approx((log(1 + numbers), log(1 + decimals)))


def test_letter_case_makes_no_other_word() -> None:
    found = dict(zip(NAMES, describe("Half HALF half of a double"), strict=True))
    assert found["distinct_words"] == pytest.approx(4 / 6)
    assert found["multiples"] == pytest.approx(log(5))


def test_of_a_long_text_only_the_length_tells_what_is_between_its_ends() -> None:
    ends = "Why? " * 300 + "{}" + "12, " * 300
    one, other = describe(ends.format("x" * 9000)), describe(ends.format("7?\n" * 3000))
    np.testing.assert_array_equal(one, other)
    longer = describe(ends.format("x" * 9001))
    assert (longer != one).tolist() == [name == "length" for name in NAMES]


def test_as_long_as_both_ends_a_text_is_seen_whole() -> None:
    text = "a" * 1023 + "??" + "b" * 1023
    expected = named(
        length=log(2049), words=log(3), word_length=1023, distinct_words=1, questions=log(3), symbols=2 / 2048
    )
    np.testing.assert_allclose(describe(text), expected, rtol=1e-6)


@pytest.mark.parametrize("unit", ["1.", "1,", "a", " ", "a ", "?\n", "🙂", "\ud800", "İ"])
def test_100_000_characters_take_no_longer_than_a_few_thousand(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    started = time.perf_counter()
    found = describe(text)
    assert time.perf_counter() - started < 0.05
    assert found[0] == pytest.approx(log(100_001))
    assert np.isfinite(found).all()


def test_many_texts_are_described_as_each_alone() -> None:
    texts = ["", "one", "2 + 2?"]
    np.testing.assert_array_equal(describe_all(texts), [describe(text) for text in texts])
    assert describe_all(texts).dtype == describe("").dtype == np.float32
    assert describe_all([]).shape == (0, len(NAMES))
