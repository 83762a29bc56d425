"""Examples whose text was kept out of storage: everything that can be done to others can be done to them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.directory_store import DirectoryStore
from index.edits import Upload, add, holds, rebuild, relabel, remove, start
from index.errors import EmbedderMismatch
from index.segment import Segment, from_bytes, from_examples, merge, to_bytes
from index.structure import describe_all
from index.types import Candidate, Example, Floats, Label, LabelKind
from index.versions import Difference, Repository, compare
from tests.tiny import DIMENSIONS, embed

FLEET = (Candidate("mini", 1.0), Candidate("maxi", 5.0))
WORDED = Example("worded", "Say hello.", {"mini": 1.0}, task="chat")
SILENT = Example("silent", "", {"mini": 0.25, "maxi": 0.5}, task="exam:law", source="A published set")
OTHER = Example("other", "", {"maxi": 1.0}, task="exam:law", source="Another set")
TEXTS = {"worded": "Say hello.", "silent": "What is 2 + 2?", "other": "Why, and\nhow?"}
VECTORS = embed(list(TEXTS.values()))
STRUCTURE = describe_all(list(TEXTS.values()))


def three() -> Segment:
    return from_examples([WORDED, SILENT, OTHER], VECTORS, STRUCTURE)


def refuse_to_embed(prompts: Sequence[str]) -> Floats:
    raise AssertionError(f"embedded {list(prompts)}")


def backwards(prompts: Sequence[str]) -> Floats:
    return -embed(prompts)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(DirectoryStore(tmp_path), DIMENSIONS)
    start(repository, three(), "tiny", "first")
    return repository


def known(repository: Repository) -> dict[str, Example]:
    """All that is live, and every vector and all structure checked to be that of the text that once was."""
    examples = repository.current().examples
    texts = [prompt or TEXTS[id] for prompt, id in zip(examples.prompts, examples.ids, strict=True)]
    np.testing.assert_array_equal(examples.vectors, embed(texts))
    np.testing.assert_array_equal(examples.structure, describe_all(texts))
    return {id: examples.example(row) for row, id in enumerate(examples.ids)}


def test_a_start_is_the_first_version(repository: Repository) -> None:
    manifest = repository.current().manifest
    assert (manifest.number, manifest.message, manifest.fingerprint) == (1, "first", "tiny")
    assert known(repository) == {"worded": WORDED, "silent": SILENT, "other": OTHER}


def test_an_index_that_has_a_version_is_not_started_again(repository: Repository) -> None:
    emptied = remove(repository, ["worded", "silent", "other"])
    assert start(repository, three(), "tiny", "again").version == emptied.version
    assert known(repository) == {}


def test_a_start_by_another_embedder_is_refused(repository: Repository) -> None:
    with pytest.raises(EmbedderMismatch):
        start(repository, three(), "another", "again")


def test_a_relabel_keeps_vector_structure_task_and_source(repository: Repository) -> None:
    before = repository.current()
    after = relabel(repository, "silent", {"model": "maxi"}, FLEET)
    label = Label(LabelKind.CHEAPEST, "maxi")
    assert known(repository)["silent"] == replace(SILENT, scores={"mini": 0.0, "maxi": 1.0}, label=label)
    assert compare(before, after) == Difference((), (), ("silent",))


def test_a_relabel_that_changes_nothing_makes_no_version(repository: Repository) -> None:
    before = repository.current().version
    assert relabel(repository, "silent", {"scores": {"maxi": 0.5, "mini": 0.25}}, FLEET).version == before


def test_one_can_be_removed(repository: Repository) -> None:
    before = repository.current()
    after = remove(repository, ["silent"])
    assert compare(before, after) == Difference((), ("silent",), ())
    assert known(repository) == {"worded": WORDED, "other": OTHER}


def test_an_upload_beside_them_embeds_only_its_own(repository: Repository) -> None:
    asked: list[str] = []

    def embed_told(prompts: Sequence[str]) -> Floats:
        asked.extend(prompts)
        return embed(prompts)

    upload = Upload(b'{"id": "new", "prompt": "Say bye.", "model": "mini"}')
    report = add(repository, upload, FLEET, embed_told, "tiny", "more")
    assert (report.added, report.replaced, asked) == (1, 0, ["Say bye."])
    assert list(known(repository)) == ["worded", "silent", "other", "new"]


def test_an_upload_with_its_id_takes_its_place_and_is_nobody_else_s(repository: Repository) -> None:
    before = repository.current()
    upload = Upload(b'{"id": "silent", "prompt": "Say bye.", "scores": {"mini": 1}}', replace=True)
    assert not holds(before, upload, FLEET)
    report = add(repository, upload, FLEET, embed, "tiny", "more")
    assert (report.added, report.replaced) == (0, 1)
    assert compare(before, report.snapshot) == Difference((), (), ("silent",))
    assert known(repository)["silent"] == Example("silent", "Say bye.", {"mini": 1.0})
    assert holds(report.snapshot, upload, FLEET)


def test_a_rebuild_by_another_embedder_leaves_them_out_and_counts_them(repository: Repository) -> None:
    before = repository.current()
    rebuilt = rebuild(repository, backwards, "another")
    assert rebuilt.left_out == 2
    assert compare(before, rebuilt.snapshot) == Difference((), ("silent", "other"), ())
    np.testing.assert_array_equal(rebuilt.snapshot.examples.vectors, -VECTORS[:1])


def test_nothing_is_lost_by_it(repository: Repository) -> None:
    before = repository.current()
    rebuild(repository, backwards, "another")
    assert repository.roll_back(before.version).manifest.fingerprint == "tiny"
    assert known(repository) == {"worded": WORDED, "silent": SILENT, "other": OTHER}


def test_a_rebuild_by_the_same_embedder_keeps_them(repository: Repository) -> None:
    rebuilt = rebuild(repository, embed, "tiny")
    assert rebuilt.left_out == 0
    assert known(repository) == {"worded": WORDED, "silent": SILENT, "other": OTHER}


def test_where_none_has_text_a_rebuild_embeds_nothing(repository: Repository) -> None:
    remove(repository, ["worded"])
    rebuilt = rebuild(repository, refuse_to_embed, "another")
    assert (rebuilt.left_out, len(rebuilt.snapshot), rebuilt.snapshot.manifest.fingerprint) == (2, 0, "another")


def test_bytes_give_sources_back() -> None:
    segment = from_bytes(to_bytes(three()))
    assert segment.sources == ("", "A published set", "Another set")
    assert to_bytes(segment) == to_bytes(three())


def test_rows_keep_their_sources() -> None:
    assert three().take(np.array([2, 0])).sources == ("Another set", "")
    assert merge([three().take(np.array([1])), three()], DIMENSIONS).sources == (SILENT.source, *three().sources)


def test_a_segment_made_without_sources_has_none() -> None:
    whole = three()
    bare = Segment(
        *(whole.ids, whole.prompts, whole.tasks, whole.labels, whole.models),
        *(whole.scores, whole.vectors, whole.structure),
    )
    assert bare.sources == ("", "", "")
    assert [bare.example(row).source for row in range(3)] == ["", "", ""]
