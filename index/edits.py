"""The edits of the index: a start, uploads, relabels, deletions, a rebuild. Each is one new version.

An edit is computed again from the version it lands on, so what a writer checked still holds when it was not the
first; only vectors are kept from the first look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from index import segment as segments
from index.errors import BadUpload, UnknownExample
from index.examples import Catalog, Parsed, parse, relabelled
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


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    snapshot: Snapshot
    left_out: int
    """Examples that have no text to embed."""


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


def start(repository: Repository, first: Segment, fingerprint: str, message: str) -> Snapshot:
    """The first version; an index that has one stays as it is, even if another writer made it just now."""
    return repository.commit(lambda base: Change(None if base.manifest.number else first), message, fingerprint)


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
    """New outcomes (`{"model": X}`, `{"only": X}` or `{"scores": {…}}`) for an example that keeps all else.
    Raises UnknownExample, or BadUpload saying what is wrong with the outcome."""

    def edit(base: Snapshot) -> Change:
        if id not in base.rows:
            raise UnknownExample([id])
        row = base.rows[id]
        old = base.examples.example(row)
        new = relabelled(old, outcome, _catalog(base, candidates))
        if new == old:
            return Change(None)
        vectors, structure = base.examples.vectors[[row]], base.examples.structure[[row]]
        return Change(segments.from_examples([new], vectors, structure), (row,))

    return repository.commit(edit, f"relabel {id}")


def remove(repository: Repository, ids: Sequence[str]) -> Snapshot:
    """Raises UnknownExample, naming every id that is not there; then none is removed."""

    def edit(base: Snapshot) -> Change:
        unknown = [id for id in ids if id not in base.rows]
        if unknown:
            raise UnknownExample(unknown)
        return Change(None, tuple(base.rows[id] for id in dict.fromkeys(ids)))

    return repository.commit(edit, f"delete {len(set(ids))} example(s)")


def rebuild(repository: Repository, embed: Embed, fingerprint: str) -> Rebuilt:
    """Every example embedded again, by this embedder. One without text keeps its vector if this embedder made it;
    else it is left out, and only older versions have it."""

    vectors: dict[str, Floats] = {}
    left_out: list[int] = []

    def rebuilt(base: Snapshot) -> Segment:
        kept = _embeddable(base, fingerprint)
        left_out[:] = [len(base) - len(kept)]
        missing = [prompt for prompt in dict.fromkeys(kept.prompts) if prompt and prompt not in vectors]
        if missing:
            vectors.update(zip(missing, embed(missing), strict=True))
        rows = [vectors.get(prompt, old) for prompt, old in zip(kept.prompts, kept.vectors, strict=True)]
        return replace(kept, vectors=np.array(rows, np.float32).reshape(kept.vectors.shape))

    rebuilt(repository.current())  # the long work first, outside the time that a race may take
    snapshot = repository.replace_all(rebuilt, "rebuild with another embedder", fingerprint)
    return Rebuilt(snapshot, left_out[0])


def _embeddable(base: Snapshot, fingerprint: str) -> Segment:
    """The examples that this embedder can embed, or has."""
    if base.manifest.fingerprint == fingerprint:
        return base.examples
    return base.examples.take(np.array([row for row, prompt in enumerate(base.examples.prompts) if prompt], np.int64))


def _catalog(base: Snapshot, candidates: Sequence[Candidate]) -> Catalog:
    return Catalog(tuple(candidates), frozenset(base.examples.models))


def _take(base: Snapshot, upload: Upload, candidates: Sequence[Candidate]) -> Parsed:
    catalog = _catalog(base, candidates)
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
