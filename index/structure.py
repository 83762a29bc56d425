"""Text → a few named numbers that say something of its difficulty without its meaning. Pure."""

import math
import re
import string
from collections.abc import Sequence

import numpy as np

from index.types import Floats

NAMES = (
    *("length", "words", "word_length", "distinct_words", "lines", "questions"),
    *("symbols", "commas", "digits", "numbers", "decimals", "multiples"),
)
RECIPE = "structure-1"
"""Change it with whatever changes the numbers: stored ones of another recipe are computed anew."""

_SIDE = 1024
"""Characters looked at from either end of a long text; only `length` knows of the rest."""
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_DECIMAL = re.compile(r"\d\.\d")
_MULTIPLES = frozenset(("times", "twice", "thrice", "half", "double", "triple", "third", "quarter"))

_SYMBOLS = np.zeros(256, bool)
_SYMBOLS[[ord(symbol) for symbol in string.punctuation]] = True


def describe(text: str) -> Floats:
    """[len(NAMES)]: shares as they are, counts as log(1 + count), so that a long text is no outlier."""
    seen = text if len(text) <= 2 * _SIDE else text[:_SIDE] + text[-_SIDE:]
    bytes_of = np.bincount(np.frombuffer(seen.encode("utf-8", "surrogatepass"), np.uint8), minlength=256)
    words = _WORD.findall(seen.lower())
    count, characters = max(len(words), 1), max(len(seen), 1)
    shares = {
        "digits": bytes_of[48:58].sum() / characters,
        "symbols": bytes_of[_SYMBOLS].sum() / characters,
        "word_length": sum(map(len, words)) / count,
        "distinct_words": len(set(words)) / count,
    }
    counts = {
        "length": len(text),
        "words": len(words),
        "numbers": len(_NUMBER.findall(seen)),
        "decimals": len(_DECIMAL.findall(seen)),
        "lines": bytes_of[ord("\n")],
        "commas": bytes_of[ord(",")],
        "questions": bytes_of[ord("?")],
        "multiples": sum(map(_MULTIPLES.__contains__, words)),
    }
    logs = {name: math.log1p(number) for name, number in counts.items()}
    return np.array([shares[name] if name in shares else logs[name] for name in NAMES], np.float32)


def describe_all(texts: Sequence[str]) -> Floats:
    """[len(texts), len(NAMES)]"""
    return np.array([describe(text) for text in texts], np.float32).reshape(len(texts), len(NAMES))
