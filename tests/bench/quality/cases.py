"""What is measured: which models on which prompts, and how many of these are indexed."""

from dataclasses import dataclass, replace

from handler.fleet import Price
from handler.flow import Usage
from index.types import Candidate
from scripts.evaluation import contest
from scripts.evaluation.contest import Contest
from scripts.evaluation.upload import Prompts
from tests.bench.quality.sources import Sources

PRICE_RATIO = 10.0
"""Of a pair's strong model to its weak one; APGR and CPT count calls and do not depend on it."""
REFERENCE = 1500
"""Labels that RouteLLM's published routers had of MMLU."""

MIXTRAL_GPT4 = ("mixtral-8x7b-instruct", "gpt-4-1106-preview")
ZEROEVAL_PAIRS = {
    "ZeroEval 4o-mini→o1-mini": ("gpt-4o-mini-2024-07-18", "o1-mini-2024-09-12"),
    "ZeroEval haiku→sonnet": ("claude-3-haiku-20240307", "claude-3-5-sonnet-20241022"),
    "ZeroEval llama-8b→4o": ("Meta-Llama-3.1-8B-Instruct", "gpt-4o-2024-08-06"),
}

SIX = {
    "gpt-4o-mini-2024-07-18": Price(input=0.15, output=0.60),
    "gpt-4o-2024-08-06": Price(input=2.50, output=10.0),
    "claude-3-haiku-20240307": Price(input=0.25, output=1.25),
    "claude-3-5-sonnet-20241022": Price(input=3.0, output=15.0),
    "Meta-Llama-3.1-70B-Instruct": Price(input=0.80, output=0.80),
    "Meta-Llama-3.1-8B-Instruct": Price(input=0.10, output=0.10),
}
"""2024 list prices."""
DOMINATED = SIX | {"o1-mini-2024-09-12": Price(input=3.0, output=12.0)}
"""With one that is better than the dearest, and costs less."""
OPENAI_CACHED = 0.5
"""Of the price of input, in 2024: what the cache had. What it takes in costs as other input does."""
ANTHROPIC_CACHED, ANTHROPIC_WRITTEN = 0.1, 1.25
TOKENS = Usage(300, 800)

SEEDS = 10
SEEDS_MMLU = 3
INDEXED = 0.2
INDEXED_FLEET = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prompts: Prompts
    contest: Contest
    indexed: int
    seeds: int

    def with_labels(self, indexed: int) -> "Case":
        return replace(self, indexed=indexed)


def pairs(sources: Sources, seeds: int | None) -> tuple[Case, ...]:
    """The five. `seeds` instead of the usual number of splits."""
    two = (
        _pair("MMLU mixtral→gpt-4", sources.mmlu, MIXTRAL_GPT4, seeds or SEEDS_MMLU),
        _pair("GSM8K mixtral→gpt-4", sources.gsm8k, MIXTRAL_GPT4, seeds or SEEDS),
    )
    return (
        *two,
        *(_pair(name, sources.zeroeval, models, seeds or SEEDS) for name, models in ZEROEVAL_PAIRS.items()),
    )


def references(sources: Sources, seeds: int | None) -> tuple[Case, ...]:
    """MMLU and GSM8K with as many labels as RouteLLM had; or with none of those that have too few prompts."""
    return tuple(
        case.with_labels(REFERENCE) for case in pairs(sources, seeds)[:2] if len(case.prompts.outcomes) >= 2 * REFERENCE
    )


def fleets(sources: Sources, seeds: int | None) -> tuple[Case, ...]:
    """The six, and the six with one that dominates."""
    prompts = sources.zeroeval
    return tuple(
        Case(name, prompts, priced(prompts, prices), round(len(prompts.outcomes) * INDEXED_FLEET), seeds or SEEDS)
        for name, prices in (("ZeroEval, six models", SIX), ("ZeroEval, six and o1-mini", DOMINATED))
    )


def other_sizes(sources: Sources, seeds: int | None) -> tuple[Case, ...]:
    """The first pair, the second and the first fleet with fewer and with more labels."""
    mmlu, gsm8k = pairs(sources, seeds)[:2]
    six = fleets(sources, seeds)[0]
    return tuple(
        case.with_labels(round(len(case.prompts.outcomes) * share))
        for case, shares in ((mmlu, (0.05, 0.4)), (gsm8k, (0.4,)), (six, (0.1, 0.2, 0.6)))
        for share in shares
    )


def priced(prompts: Prompts, prices: dict[str, Price]) -> Contest:
    return contest.of(
        prompts.outcomes,
        [Candidate(name, price.of(TOKENS)) for name, price in prices.items()],
    )


def with_cache(name: str, price: Price) -> Price:
    """With what the model's provider took for its prompt cache in 2024; it had none for the open models."""
    if name.startswith(("gpt-", "o1-")):
        return price.model_copy(update={"cached_input": OPENAI_CACHED * price.input})
    if name.startswith("claude-"):
        cached, written = ANTHROPIC_CACHED * price.input, ANTHROPIC_WRITTEN * price.input
        return price.model_copy(update={"cached_input": cached, "cache_write": written})
    return price


def _pair(name: str, prompts: Prompts, models: tuple[str, str], seeds: int) -> Case:
    models_of = contest.pair(prompts.outcomes, *models, PRICE_RATIO)
    return Case(name, prompts, models_of, round(len(prompts.outcomes) * INDEXED), seeds)
