import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from index import dial, fit_json, manifest
from index.ballot import draw_up
from index.calibration import COEFFICIENTS, EASE_COEFFICIENTS
from index.errors import Damaged
from index.fit import Fit
from index.manifest import Manifest
from index.structure import NAMES
from index.types import Candidate
from tests.tiny import exact, measured, version_of

FLEET = (Candidate("cheap", 0.1), Candidate("new", 1 / 3), Candidate("mine", 0.7, like="dear"))
"""Of the second one nothing is known."""
MANIFEST = Manifest(1, None, "", "", "")


def fit_of(count: int) -> Fit:
    return draw_up(version_of(measured(count)), FLEET).fit


def written(fit: Fit) -> Any:
    return orjson.loads(manifest.to_bytes(replace(MANIFEST, fit=fit)))


def read(fields: Any) -> Fit | None:
    return manifest.from_bytes(orjson.dumps(fields), "v").fit


@pytest.mark.parametrize("count", [0, 1, 2, 40, 200])
def test_a_fit_is_read_back_to_the_last_bit(count: int) -> None:
    fit = fit_of(count)
    assert (fit.calibration is not None, bool(fit.curve.examples)) == (count >= 50, count > 1)
    assert exact(read(written(fit))) == exact(fit)


def test_what_is_not_known_is_null_and_comes_back_as_what_it_was() -> None:
    """One example alone has no margin; of the second model nothing is known, and the third's price is no number."""
    one = np.array([[0.5, np.nan, 0.5]], np.float32)
    fit = Fit((*FLEET[:2], Candidate("dearest", math.inf)), None, dial.calibrate(one, one, np.array([0.1, 1 / 3, 0.7])))
    fields = written(fit)
    curve, (_, new, dearest) = fields["fit"]["curve"], fields["fit"]["models"]
    assert (curve["spend_margin"], new["alone"]["quality"], dearest["cost"]) == ([None] * 101, None, None)
    back = read(fields)
    assert back is not None
    assert back.candidates == fit.candidates
    assert exact(back.curve.promises) == exact(fit.curve.promises)
    assert math.isnan(back.curve.singles[1].quality)
    assert back.curve.singles[1].quality_margin == math.inf


def test_a_person_reads_each_model_s_coefficients_by_name() -> None:
    fit = fit_of(200)
    assert fit.calibration is not None
    stored = written(fit)["fit"]
    coefficients = {model["name"]: model["calibration"]["coefficients"] for model in stored["models"]}
    assert tuple(coefficients["cheap"]) == COEFFICIENTS
    assert {name: round(value, 4) for name, value in coefficients["mine"].items()} == fit.calibration.named(2)
    assert tuple(stored["calibration"]["ease"]) == EASE_COEFFICIENTS
    assert tuple(stored["calibration"]["structure"]) == NAMES


def test_the_order_of_terms_in_a_manifest_says_nothing() -> None:
    fit = fit_of(200)
    fields = orjson.loads(orjson.dumps(written(fit), option=orjson.OPT_SORT_KEYS))
    assert tuple(fields["fit"]["calibration"]["structure"]) != NAMES
    assert exact(read(fields)) == exact(fit)


def test_a_manifest_written_before_there_were_fits_is_read() -> None:
    fields = written(fit_of(2))
    del fields["fit"]
    assert read(fields) is None


def test_a_fit_of_another_recipe_is_as_none() -> None:
    fields = written(fit_of(200))
    fields["fit"] = {"recipe": "fit-0", "whatever": "it had"}
    assert read(fields) is None


def _no_term(fit: Any) -> None:
    del fit["models"][0]["calibration"]["coefficients"]["ease"]


def _another_term(fit: Any) -> None:
    fit["calibration"]["ease"]["luck"] = 1.0


def _unscaled(fit: Any) -> None:
    del fit["calibration"]["structure"]["words"]


def _one_uncalibrated(fit: Any) -> None:
    fit["models"][1]["calibration"] = None


def _one_not_measured(fit: Any) -> None:
    fit["models"][2]["alone"] = None


def _short_column(fit: Any) -> None:
    fit["curve"]["quality"].pop()


def _short_curve(fit: Any) -> None:
    for column in ("spend", "spend_margin", "quality", "quality_margin"):
        fit["curve"][column].pop()


def _few_rates(fit: Any) -> None:
    fit["curve"]["exchange"].pop()


def _word(fit: Any) -> None:
    fit["curve"]["spend"][3] = "much"


def _no_recipe(fit: Any) -> None:
    del fit["recipe"]


@pytest.mark.parametrize(
    "spoil",
    [
        *(_no_term, _another_term, _unscaled, _one_uncalibrated, _one_not_measured),
        *(_short_column, _short_curve, _few_rates, _word, _no_recipe),
    ],
)
def test_what_is_no_fit_is_damaged(spoil: Callable[[Any], None]) -> None:
    fields = written(fit_of(200))
    spoil(fields["fit"])
    with pytest.raises(Damaged, match="version v is no manifest"):
        read(fields)


@pytest.mark.parametrize("value", [{}, [], 1, "fit", True], ids=str)
def test_any_other_value_is_damaged_too(value: object) -> None:
    with pytest.raises(Damaged, match="version v is no manifest"):
        read({**written(fit_of(0)), "fit": value})


def test_the_recipe_is_that_of_these_figures() -> None:
    """Where they change, so must RECIPE: a version that keeps the old ones would go on being served with them."""
    fit = fit_of(200)
    assert fit.calibration is not None
    promise = fit.curve.promise(7)
    found = (fit.calibration.ease[1], fit.calibration.named(0)["ease_squared"], fit.curve.rate(7))
    assert fit_json.RECIPE == "fit-2 structure-1"
    assert (*found, promise.spend, promise.quality) == pytest.approx((0.2422, 0.0186, 0.6782, 0.277, 0.45), rel=0.01)
