"""The edits of the index: uploads, relabels, deletions, a rebuild. Each is one new version.

An edit is computed again from the version it lands on, so what a writer checked still holds when it was not the
first; only vectors are kept from the first look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson

from index import segment as segments
from index.errors import BadUpload, UnknownExample
from index.examples import Catalog, Parsed, parse
from index.segment import Segment
from index.snapshot import Snapshot
from index.types import Candidate, Example, Fault, Floats
from index.versions import Change, Repository, require_embedder

Embed = Callable[[Sequence[str]], Floats]
"""Prompts → float32 [n, 384] unit vectors."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of examples, as sent."""

    data: bytes
    name: str = ""
    """The file's, whose suffix tells the format; else the content does."""
    skip_bad: bool = False
    """Take the good lines and list the bad ones, instead of taking nothing."""
    replace: bool = False
    """An id that the index has is no bad line but a new wording or new outcomes for that example."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an upload did."""

    snapshot: Snapshot
    added: int
    replaced: int
    skipped: tuple[Fault, ...]


def add(
    repository: Repository,
    upload: Upload,
    candidates: Sequence[Candidate],
    embed: Embed,
    fingerprint: str,
    message: str,
) -> Report:
    """Raises BadUpload, with every bad line, when there is one and `skip_bad` is off."""
    base = repository.current()
    require_embedder(base.manifest, fingerprint)  # before the long work of embedding, not after it
    vectors = _embedded(base, _take(base, upload, candidates).examples, embed)
    last: list[tuple[Parsed, tuple[int, ...]]] = []

    def edit(base: Snapshot) -> Change:
        taken = _take(base, upload, candidates)
        dropped = tuple(base.rows[example.id] for example in taken.examples if example.id in base.rows)
        last[:] = [(taken, dropped)]
        # Another writer may have made good what was a bad line at first.
        vectors.update(_embedded(base, [example for example in taken.examples if example.prompt not in vectors], embed))
        rows = [vectors[example.prompt] for example in taken.examples]
        return Change(segments.from_examples(taken.examples, np.array(rows, np.float32)) if rows else None, dropped)

    snapshot = repository.commit(edit, message, fingerprint)
    taken, dropped = last[0]
    return Report(snapshot, len(taken.examples) - len(dropped), len(dropped), taken.faults)


def holds(base: Snapshot, upload: Upload, candidates: Sequence[Candidate]) -> bool:
    """Whether every example of an upload is in the index already, just as the upload has it."""
    try:
        examples = _take(base, replace(upload, replace=True), candidates).examples
    except BadUpload:
        return False
    if not all(example.id in base.rows for example in examples):
        return False
    rows = [base.rows[example.id] for example in examples]
    stored = segments.from_examples(examples, base.examples.vectors[rows])  # which rounds scores as the index does
    return all(stored.example(place) == base.examples.example(row) for place, row in enumerate(rows))


def relabel(
    repository: Repository, id: str, outcome: Mapping[str, object], candidates: Sequence[Candidate]
) -> Snapshot:
    """New outcomes (`{"model": X}`, `{"only": X}` or `{"scores": {…}}`) for an example that keeps its vector.
    Raises UnknownExample, or BadUpload saying what is wrong with the outcome."""

    def edit(base: Snapshot) -> Change:
        if id not in base.rows:
            raise UnknownExample([id])
        row = base.rows[id]
        old = base.examples.example(row)
        line = {"id": id, "prompt": old.prompt, "task": old.task, **outcome}
        upload = Upload(orjson.dumps(line), replace=True)
        (new,) = _take(base, upload, candidates).examples
        if new == old:
            return Change(None)
        return Change(segments.from_examples([new], base.examples.vectors[[row]]), (row,))

    return repository.commit(edit, f"relabel {id}")


def remove(repository: Repository, ids: Sequence[str]) -> Snapshot:
    """Raises UnknownExample, naming every id that is not there; then none is removed."""

    def edit(base: Snapshot) -> Change:
        unknown = [id for id in ids if id not in base.rows]
        if unknown:
            raise UnknownExample(unknown)
        return Change(None, tuple(base.rows[id] for id in dict.fromkeys(ids)))

    return repository.commit(edit, f"delete {len(set(ids))} example(s)")


def rebuild(repository: Repository, embed: Embed, fingerprint: str) -> Snapshot:
    """Every example embedded again, by this embedder."""

    vectors: dict[str, Floats] = {}

    def rebuilt(base: Snapshot) -> Segment:
        prompts = base.examples.prompts
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in vectors]
        if missing:
            vectors.update(zip(missing, embed(missing), strict=True))
        rows = np.array([vectors[prompt] for prompt in prompts], np.float32)
        return replace(base.examples, vectors=rows.reshape(base.examples.vectors.shape))

    rebuilt(repository.current())  # the long work first, outside the time that a race may take
    return repository.replace_all(rebuilt, "rebuild with another embedder", fingerprint)


def _take(base: Snapshot, upload: Upload, candidates: Sequence[Candidate]) -> Parsed:
    catalog = Catalog(tuple(candidates), frozenset(base.examples.models))
    parsed = parse(upload.data, catalog, frozenset() if upload.replace else base.rows, upload.name)
    if parsed.faults and not upload.skip_bad:
        raise BadUpload(parsed.faults)
    return parsed


def _embedded(base: Snapshot, examples: Sequence[Example], embed: Embed) -> dict[str, Floats]:
    """Prompt → vector; a replaced example whose prompt is the same keeps its own."""
    kept = {
        example.prompt: base.examples.vectors[base.rows[example.id]]
        for example in examples
        if example.id in base.rows and base.examples.prompts[base.rows[example.id]] == example.prompt
    }
    new = list(dict.fromkeys(example.prompt for example in examples if example.prompt not in kept))
    return kept | (dict(zip(new, embed(new), strict=True)) if new else {})
