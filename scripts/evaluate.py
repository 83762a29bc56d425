"""`nearvote evaluate`: how well the vote would route measured prompts, beside what else could be done."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from handler import fleet as fleets
from handler.control.embedding import LazyEmbedder
from handler.fleet import TYPICAL_INPUT_TOKENS, TYPICAL_OUTPUT_TOKENS, BadFleet
from index import structure
from index.errors import BadUpload, NearvoteIndexError
from index.types import Fault
from scripts import model_files
from scripts.evaluation import contest as contests
from scripts.evaluation import outcomes as measured
from scripts.evaluation import report, trial
from scripts.evaluation.contest import BadContest, Contest
from scripts.evaluation.outcomes import Outcomes
from scripts.evaluation.summary import Evaluation
from scripts.evaluation.upload import Prompts
from scripts.evaluation.vectors import cache_folder, embed
from scripts.output import AsJson, say, show, to_json

WORKERS = 2
MODELS = "Which models"
SPLIT = "The split"


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="CSV or CSV.gz: prompt, task, and a column of scores a model."
        ),
    ],
    weak: Annotated[str, typer.Option(help="The cheaper model of a pair.", rich_help_panel=MODELS)] = "",
    strong: Annotated[str, typer.Option(help="The dearer model of a pair.", rich_help_panel=MODELS)] = "",
    price_ratio: Annotated[
        float,
        typer.Option(
            min=1.001, max=1e6, help="What the pair's strong model costs, the weak one being 1.", rich_help_panel=MODELS
        ),
    ] = 10.0,
    fleet: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A fleet file, instead of a pair.", rich_help_panel=MODELS),
    ] = None,
    input_tokens: Annotated[
        int, typer.Option(min=0, help="Of a request, for the fleet's prices.", rich_help_panel=MODELS)
    ] = TYPICAL_INPUT_TOKENS,
    output_tokens: Annotated[
        int, typer.Option(min=0, help="Of a request, for the fleet's prices.", rich_help_panel=MODELS)
    ] = TYPICAL_OUTPUT_TOKENS,
    index_share: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Of the prompts, those indexed.", rich_help_panel=SPLIT)
    ] = 0.2,
    index_size: Annotated[
        int, typer.Option(min=0, help="Prompts indexed, instead of a share.", rich_help_panel=SPLIT)
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first split.", rich_help_panel=SPLIT)] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Splits to average.", rich_help_panel=SPLIT)] = 1,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Save JSON, CSV and pictures in this directory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Index a part of DATA, route the rest, and compare the vote with random, single models, an oracle, prompt
    length and a trained logistic regression."""
    if bool(weak) != bool(strong):
        raise typer.BadParameter("give both or neither", param_hint="--weak and --strong")
    if weak and fleet:
        raise typer.BadParameter("give either a pair or a fleet", param_hint="--fleet")
    with _faults_told(as_json):
        outcomes = measured.parse(data.read_bytes())
        if fleet:
            contest = contests.fleet(outcomes, fleets.parse(fleet.read_bytes()).fleet, input_tokens, output_tokens)
        elif weak:
            contest = contests.pair(outcomes, weak, strong, price_ratio)
        else:
            contest = contests.only_pair(outcomes, price_ratio)
        indexed = index_size or round(len(outcomes) * index_share)
        evaluation = run(outcomes, contest, indexed, range(seed, seed + seeds), data.name)
        found = report.as_json(evaluation)
        if out:
            save(evaluation, found, out)
    show(found, as_json, report.as_text(found))


def run(outcomes: Outcomes, contest: Contest, indexed: int, seeds: range, name: str) -> Evaluation:
    """Raises BadContest where too few prompts are left for either part."""
    if not 0 < indexed <= len(outcomes) - 2:
        raise BadContest(f"{indexed} of {len(outcomes)} prompts cannot be indexed: one is needed, and two to route")
    embedder = LazyEmbedder(lambda: model_files.ensure(os.environ, report=say), WORKERS)
    vectors = embed(outcomes.prompts, embedder, cache_folder(os.environ))
    structures = structure.describe_all(outcomes.prompts)
    prompts = Prompts(outcomes, vectors, structures, embedder.fingerprint)
    trials = tuple(
        trial.run(prompts, contest, measured.split(len(outcomes), seed, indexed), seed)
        for seed in tqdm(seeds, unit="splits", leave=False)
    )
    return Evaluation(name, len(outcomes), outcomes.duplicates, embedder.fingerprint, contest, trials)


def save(evaluation: Evaluation, found: dict[str, Any], folder: Path) -> None:
    from scripts.evaluation import plots  # matplotlib takes half a second to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(f"{to_json(found)}\n")
    for name, text in report.as_csv(found, evaluation).items():
        (folder / name).write_text(text)
    plots.draw(evaluation, folder)


@contextmanager
def _faults_told(as_json: bool) -> Iterator[None]:
    """Every fault that has a remedy is told in one line, a file's faults in one each; the command exits with 1."""
    try:
        yield
    except BadUpload as error:
        raise _failed(error, error.faults, as_json) from error
    except (BadContest, BadFleet, NearvoteIndexError, OSError) as error:
        raise _failed(error, (), as_json) from error


def _failed(error: Exception, faults: Sequence[Fault], as_json: bool) -> SystemExit:
    message = f"{len(faults)} line(s) cannot be taken" if faults else str(error)
    if as_json:
        details = {"details": {"faults": [fault.as_json() for fault in faults]}} if faults else {}
        print(to_json({"error": {"message": message, **details}}))
    else:
        say(f"error: {message}")
        for fault in faults:
            say(f"  line {fault.line}: {fault.reason}")
    return SystemExit(1)
