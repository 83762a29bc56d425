"""Several splits → means and standard errors."""

import numpy as np
import pytest

from index.types import Candidate
from scripts.evaluation import summary
from scripts.evaluation.contest import Contest
from scripts.evaluation.dialled import Dialled
from scripts.evaluation.judge import Judge
from scripts.evaluation.summary import Evaluation
from scripts.evaluation.trial import Trial

COST = np.array([1.0, 10.0])
CONTEST = Contest((Candidate("weak", 1.0), Candidate("strong", 10.0)), np.array([0, 1]))


def trial(seed: int, outcomes: list[list[float]], predicted: list[list[float]], spent: float) -> Trial:
    found = np.array(outcomes)
    judge = Judge(found, COST)
    routers = judge.constants() | {"vote": judge.predicted(np.array(predicted))}
    eleven = np.ones(11)
    dial = Dialled(eleven * 5, eleven * 0.5, eleven * spent, eleven * 0.6)
    return Trial(seed, 2, 4, 0, found.mean(axis=0), routers, dial)


HARD, EASY, NONE = [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]
SEES, BLIND = [0.1, 0.9], [0.9, 0.1]
KNOWS = trial(0, [HARD, EASY, EASY, EASY], [SEES, BLIND, BLIND, BLIND], spent=4.0)
ERRS = trial(1, [HARD, EASY, EASY, EASY], [BLIND, SEES, BLIND, BLIND], spent=6.0)
GAPLESS = trial(2, [EASY, EASY, EASY, NONE], [SEES, SEES, SEES, SEES], spent=6.0)


def test_means_stand_beside_their_standard_errors() -> None:
    # It knows: 3·1 + 10 of 40 are spent for all that the strong model can do. It errs: that is never had for less.
    found = summary.measures((KNOWS, ERRS), "vote")
    assert found["saving_at_best"] == pytest.approx((27 / 40 + 0) / 2)
    assert found["standard_error"]["saving_at_best"] == pytest.approx(27 / 40 / 2)
    assert found["quality_at_savings"]["60"] == pytest.approx((1 + 0.75) / 2)
    assert found["standard_error"]["quality_at_savings"]["60"] == pytest.approx(0.25 / 2)


def test_a_measure_is_averaged_where_it_is_defined() -> None:
    alone, with_gapless = summary.measures((KNOWS,), "vote"), summary.measures((KNOWS, GAPLESS), "vote")
    assert with_gapless["apgr"] == alone["apgr"]
    assert with_gapless["standard_error"]["apgr"] is None
    assert summary.measures((GAPLESS,), "vote")["apgr"] is None


def test_a_pooled_saving_is_read_on_the_averaged_curve() -> None:
    # On average the best of it is quality (1 + .75) / 2, below the strong model's 1.
    assert summary.pooled_saving_at_best(_evaluation(KNOWS, ERRS), "vote") == 0.0
    assert summary.pooled_saving_at_best(_evaluation(KNOWS, KNOWS), "vote") == pytest.approx(27 / 40)
    assert summary.pooled_saving_at_best(_evaluation(KNOWS, ERRS), "best_single") is None


def test_errors_of_the_dial_do_not_cancel_out_over_splits() -> None:
    found = _evaluation(KNOWS, ERRS)
    assert summary.dial(found.trials).delivered_spend.tolist() == [5.0] * 11  # as promised, on average
    assert summary.dial_error(found) == {"quality": pytest.approx(0.1), "spend": pytest.approx(0.1)}


def _evaluation(*trials: Trial) -> Evaluation:
    return Evaluation("data.csv", 6, 0, "f00", CONTEST, trials)
