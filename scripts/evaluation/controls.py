"""What the vote is compared with. Each control predicts quality [q, m], as the vote does, or always does the same."""

import numpy as np

from index.types import Rows
from scripts.evaluation import logistic
from scripts.evaluation.arrays import Numbers
from scripts.evaluation.contest import Contest
from scripts.evaluation.upload import Prompts

STRUCTURE_SCALE = 0.1
"""Of standardised structural features beside unit vectors, whose components are about .05."""


def prompt_length(prompts: Prompts, rest: Rows, models: int) -> Numbers:
    """The longer a prompt is among those routed, the more is expected of each step up in price: nothing is
    learned, and no outcome is looked at."""
    lengths = np.array([len(prompts.outcomes.prompts[row]) for row in rest])
    place = np.searchsorted(np.sort(lengths), lengths, side="right") / len(lengths)
    return place[:, None] * np.linspace(0, 1, models)


def logistic_regression(prompts: Prompts, contest: Contest, indexed: Rows, rest: Rows) -> Numbers:
    """A logistic regression a model, trained on the vectors that vote."""
    return _trained(prompts.vectors, prompts.outcomes.scores[:, contest.columns], indexed, rest)


def logistic_regression_structure(prompts: Prompts, contest: Contest, indexed: Rows, rest: Rows) -> Numbers:
    """The same with structure appended to the vectors, standardised on the indexed prompts."""
    known = prompts.structures[indexed]
    standard = (prompts.structures - known.mean(axis=0)) / (known.std(axis=0) + 1e-6)
    features = np.column_stack([prompts.vectors, STRUCTURE_SCALE * standard])
    return _trained(features, prompts.outcomes.scores[:, contest.columns], indexed, rest)


def _trained(features: Numbers, outcomes: Numbers, indexed: Rows, rest: Rows) -> Numbers:
    return np.column_stack([_probability(features[indexed], column[indexed], features[rest]) for column in outcomes.T])


def _probability(features: Numbers, outcomes: Numbers, asked: Numbers) -> Numbers:
    """[q]; NaN for a model without a known outcome."""
    known = ~np.isnan(outcomes)
    if len(np.unique(outcomes[known])) < 2:
        return np.full(len(asked), outcomes[known].mean() if known.any() else np.nan)
    return logistic.predict(logistic.fit(features[known], outcomes[known]), asked)
