import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from index import versions
from index.directory_store import DirectoryStore
from index.edits import Embed, Report, Upload, add, holds, rebuild, relabel, remove
from index.errors import BadUpload, EmbedderMismatch, UnknownExample
from index.snapshot import Snapshot
from index.types import Candidate, Example, Fault, Floats, Label, LabelKind
from index.versions import Difference, Repository, compare
from tests.tiny import DIMENSIONS, Interrupted, embed

FLEET = (Candidate("mini", 1.0), Candidate("midi", 2.0), Candidate("maxi", 5.0))
FINGERPRINT = "tiny"


class Counting:
    """Embeds, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: Sequence[str]) -> Floats:
        self.asked.append(list(prompts))
        return embed(prompts)


def refuse_to_embed(prompts: Sequence[str]) -> Floats:
    raise AssertionError(f"embedded {list(prompts)}")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(DirectoryStore(tmp_path), DIMENSIONS)


def interrupted(tmp_path: Path, happening: Callable[[Repository], object]) -> Repository:
    """One before whose first swap of HEAD `happening` changes the same index."""
    store = DirectoryStore(tmp_path)
    return Repository(Interrupted(store, lambda: happening(Repository(store, DIMENSIONS))), DIMENSIONS)


def upload(*rows: object, skip_bad: bool = False, replace: bool = False) -> Upload:
    data = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return Upload(data.encode(), skip_bad=skip_bad, replace=replace)


def line(id: str, prompt: str = "", model: str = "mini") -> dict[str, str]:
    return {"id": id, "prompt": prompt or f"prompt {id}", "model": model}


def added(
    repository: Repository, *rows: object, skip_bad: bool = False, replace: bool = False, embed: Embed = embed
) -> Report:
    return add(repository, upload(*rows, skip_bad=skip_bad, replace=replace), FLEET, embed, FINGERPRINT, "add examples")


def contents(snapshot: Snapshot) -> dict[str, tuple[str, dict[str, float]]]:
    """Id → prompt and scores, and every vector checked to be that of its prompt."""
    np.testing.assert_array_equal(snapshot.examples.vectors, embed(snapshot.examples.prompts))
    examples = [snapshot.examples.example(row) for row in range(len(snapshot))]
    return {example.id: (example.prompt, dict(example.scores)) for example in examples}


MINI = {"mini": 1.0, "midi": 1.0, "maxi": 1.0}
MIDI = {"mini": 0.0, "midi": 1.0, "maxi": 1.0}
MAXI = {"mini": 0.0, "midi": 0.0, "maxi": 1.0}


def test_an_upload_is_one_new_version_with_its_examples(repository: Repository) -> None:
    first = added(repository, line("a"), line("b", model="maxi"))
    second = added(repository, line("c", model="midi"))
    assert (first.added, first.replaced, first.skipped) == (2, 0, ())
    assert [manifest.message for _, manifest in repository.history(10)] == ["add examples"] * 2
    assert second.snapshot.manifest.fingerprint == FINGERPRINT
    assert contents(second.snapshot) == contents(repository.current())
    assert contents(repository.current()) == {
        "a": ("prompt a", MINI),
        "b": ("prompt b", MAXI),
        "c": ("prompt c", MIDI),
    }


def test_a_prompt_that_comes_twice_is_embedded_once(repository: Repository) -> None:
    counting = Counting()
    report = added(repository, line("a", "same"), line("b", "same"), line("c", "other"), embed=counting)
    assert counting.asked == [["same", "other"]]
    assert list(contents(report.snapshot)) == ["a", "b", "c"]


def test_a_bad_line_means_nothing_is_applied_and_every_bad_line_is_named(repository: Repository) -> None:
    added(repository, line("a"))
    with pytest.raises(BadUpload) as caught:
        added(repository, line("b"), "[]", line("a"), line("c", model="mnini"), embed=refuse_to_embed)
    assert caught.value.faults == (
        Fault(2, "not a JSON object"),
        Fault(3, "id 'a' is already in the index"),
        Fault(4, "model names an unknown model 'mnini'; did you mean 'mini'?"),
    )
    assert list(contents(repository.current())) == ["a"]
    assert len(list(repository.history(10))) == 1


def test_bad_lines_are_skipped_and_listed_when_asked(repository: Repository) -> None:
    added(repository, line("a"))
    report = added(repository, line("b"), line("a", "other prompt"), {"id": "c", "model": "mini"}, skip_bad=True)
    assert (report.added, report.replaced) == (1, 0)
    assert report.skipped == (Fault(2, "id 'a' is already in the index"), Fault(3, "no prompt"))
    assert contents(repository.current()) == {"a": ("prompt a", MINI), "b": ("prompt b", MINI)}


def test_an_upload_of_bad_lines_only_makes_no_version(repository: Repository) -> None:
    report = added(repository, {"prompt": "no outcome"}, skip_bad=True, embed=refuse_to_embed)
    assert (report.added, report.snapshot.version) == (0, versions.EMPTY)
    assert report.skipped == (Fault(1, "no outcome: give one of model, only, scores"),)
    assert list(repository.history(10)) == []


def test_a_replaced_example_takes_its_new_wording_and_outcomes(repository: Repository) -> None:
    added(repository, line("a"), line("b"))
    counting = Counting()
    report = added(repository, line("a", "new wording", "maxi"), line("c"), replace=True, embed=counting)
    assert (report.added, report.replaced) == (1, 1)
    assert counting.asked == [["new wording", "prompt c"]]
    assert contents(report.snapshot) == {
        "b": ("prompt b", MINI),
        "a": ("new wording", MAXI),
        "c": ("prompt c", MINI),
    }


def test_a_replaced_example_of_the_same_wording_keeps_its_vector(repository: Repository) -> None:
    before = added(repository, line("a"), line("b")).snapshot
    after = added(repository, line("a", model="midi"), replace=True, embed=refuse_to_embed).snapshot
    assert compare(before, after) == Difference((), (), ("a",))
    assert contents(after) == {"b": ("prompt b", MINI), "a": ("prompt a", MIDI)}


def test_a_name_that_only_the_index_knows_can_still_be_used(repository: Repository) -> None:
    old_fleet = (*FLEET, Candidate("retired", 3.0))
    add(repository, upload(line("a", model="retired")), old_fleet, embed, FINGERPRINT, "old")
    assert contents(added(repository, line("b", model="retired")).snapshot)["b"] == ("prompt b", {"retired": 1.0})


def test_vectors_of_another_embedder_are_refused_before_any_is_made(repository: Repository) -> None:
    added(repository, line("a"))
    with pytest.raises(EmbedderMismatch, match="rebuild"):
        add(repository, upload(line("b")), FLEET, refuse_to_embed, "another", "add")
    assert list(contents(repository.current())) == ["a"]


@pytest.mark.parametrize(
    ("rows", "held"),
    [
        ([line("a"), line("b")], True),
        ([line("b"), {"id": "c", "prompt": "c", "scores": {"mini": 1 / 3}}], True),
        ([], True),
        ([line("a"), line("new")], False),
        ([line("a", "another prompt")], False),
        ([line("a", model="maxi")], False),
        ([line("a") | {"task": "t"}], False),
        ([line("a"), line("a")], False),
        ([line("a"), "not JSON"], False),
    ],
)
def test_an_upload_is_held_when_every_example_is_there_as_it_has_it(
    repository: Repository, rows: list[object], held: bool
) -> None:
    assert holds(repository.current(), upload(), FLEET)
    assert not holds(repository.current(), upload(line("a")), FLEET)
    added(repository, line("a"), line("b"), {"id": "c", "prompt": "c", "scores": {"mini": 1 / 3}})
    assert holds(repository.current(), upload(*rows), FLEET) is held


def test_relabelling_changes_outcomes_and_keeps_wording_task_and_vector(repository: Repository) -> None:
    before = added(repository, {**line("a"), "task": "chat"}, line("b")).snapshot
    after = relabel(repository, "a", {"only": "maxi"}, FLEET)
    assert compare(before, after) == Difference((), (), ("a",))
    assert after.manifest.message == "relabel a"
    expected = Example("a", "prompt a", {}, Label(LabelKind.ONLY, "maxi"), "chat")
    assert after.examples.example(after.rows["a"]) == expected
    assert contents(after)["b"] == ("prompt b", MINI)


@pytest.mark.parametrize(
    ("outcome", "scores"),
    [({"model": "midi"}, MIDI), ({"scores": {"mini": 0.25}}, {"mini": 0.25}), ({"only": "mini"}, {})],
)
def test_each_kind_of_outcome_can_be_given(
    repository: Repository, outcome: dict[str, object], scores: dict[str, float]
) -> None:
    added(repository, line("a", "line one\nline \u2028 two \x07", "maxi"))
    assert contents(relabel(repository, "a", outcome, FLEET)) == {"a": ("line one\nline \u2028 two \x07", scores)}


def test_the_same_label_again_makes_no_version(repository: Repository) -> None:
    before = added(repository, line("a")).snapshot
    assert relabel(repository, "a", {"model": "mini"}, FLEET).version == before.version


def test_an_unknown_id_cannot_be_relabelled(repository: Repository) -> None:
    added(repository, line("a"))
    with pytest.raises(UnknownExample, match="no such example: nobody"):
        relabel(repository, "nobody", {"model": "mini"}, FLEET)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"model": "mnini"}, "model names an unknown model 'mnini'; did you mean 'mini'?"),
        ({"scores": {"mini": 2}}, "score of mini is outside 0..1: 2"),
        ({"scores": {}}, "no outcome: scores is empty"),
        ({}, "no outcome: give one of model, only, scores"),
        ({"model": "mini", "only": "mini"}, "model and only together: give only one of them"),
        ({"scor": 1}, "unknown field 'scor'"),
    ],
)
def test_a_bad_outcome_says_what_is_wrong_and_changes_nothing(
    repository: Repository, outcome: dict[str, object], reason: str
) -> None:
    before = added(repository, line("a")).snapshot
    with pytest.raises(BadUpload) as caught:
        relabel(repository, "a", outcome, FLEET)
    assert caught.value.faults == (Fault(1, reason),)
    assert repository.current().version == before.version


def test_removed_examples_are_gone(repository: Repository) -> None:
    before = added(repository, line("a"), line("b"), line("c")).snapshot
    after = remove(repository, ["c", "a", "c"])
    assert compare(before, after) == Difference((), ("a", "c"), ())
    assert after.manifest.message == "delete 2 example(s)"
    assert contents(after) == {"b": ("prompt b", MINI)}


def test_one_unknown_id_means_none_is_removed(repository: Repository) -> None:
    before = added(repository, line("a")).snapshot
    with pytest.raises(UnknownExample) as caught:
        remove(repository, ["x", "a", "y"])
    assert caught.value.ids == ("x", "y")
    assert repository.current().version == before.version


def test_a_removed_id_can_be_added_again(repository: Repository) -> None:
    added(repository, line("a"))
    remove(repository, ["a"])
    assert contents(added(repository, line("a", "again", "maxi")).snapshot) == {"a": ("again", MAXI)}


def backwards(prompts: Sequence[str]) -> Floats:
    return -embed(prompts)


def test_a_rebuild_embeds_every_example_again(repository: Repository) -> None:
    added(repository, line("a"), line("b"), line("c", "prompt a"))
    before = remove(repository, ["b"])
    after = rebuild(repository, backwards, "another").snapshot
    assert after.manifest.fingerprint == "another"
    assert compare(before, after) == Difference((), (), ())
    np.testing.assert_array_equal(after.examples.vectors, -embed(["prompt a", "prompt a"]))
    assert add(repository, upload(line("d")), FLEET, backwards, "another", "add").added == 1


def test_an_empty_index_can_be_rebuilt(repository: Repository) -> None:
    assert len(rebuild(repository, refuse_to_embed, "another").snapshot) == 0
    assert repository.current().manifest.fingerprint == "another"


def test_a_rebuild_that_loses_a_race_embeds_only_what_came_meanwhile(tmp_path: Path, repository: Repository) -> None:
    added(repository, line("a"), line("b"))
    counting = Counting()
    late = interrupted(tmp_path, lambda other: (remove(other, ["a"]), added(other, line("c"))))
    rebuilt = rebuild(late, counting, "another").snapshot
    assert counting.asked == [["prompt a", "prompt b"], ["prompt c"]]
    assert list(contents(rebuilt)) == ["b", "c"]
    assert [manifest.fingerprint for _, manifest in late.history(10)] == ["another", *("tiny",) * 3]


def test_an_upload_that_loses_a_race_embeds_nothing_again(tmp_path: Path) -> None:
    counting = Counting()
    late = interrupted(tmp_path, lambda other: added(other, line("b")))
    assert list(contents(added(late, line("a"), embed=counting).snapshot)) == ["b", "a"]
    assert counting.asked == [["prompt a"]]


def test_who_comes_second_with_an_id_is_told_by_line(tmp_path: Path, repository: Repository) -> None:
    late = interrupted(tmp_path, lambda other: added(other, line("a", "first come")))
    with pytest.raises(BadUpload) as caught:
        added(late, line("b"), line("a", "second come"))
    assert caught.value.faults == (Fault(2, "id 'a' is already in the index"),)
    assert contents(repository.current()) == {"a": ("first come", MINI)}


def test_who_comes_second_and_replaces_wins_and_is_told_so(tmp_path: Path, repository: Repository) -> None:
    late = interrupted(tmp_path, lambda other: added(other, line("a", "first come")))
    report = added(late, line("a", "second come"), replace=True)
    assert (report.added, report.replaced) == (0, 1)
    assert contents(repository.current()) == {"a": ("second come", MINI)}


def test_a_line_that_a_race_makes_good_is_taken_too(tmp_path: Path, repository: Repository) -> None:
    """Its id was taken at first, so it was skipped and not embedded; then another writer removed that id."""
    added(repository, line("a", "old"))
    late = interrupted(tmp_path, lambda other: remove(other, ["a"]))
    report = added(late, line("a", "new"), line("b"), skip_bad=True)
    assert (report.added, report.skipped) == (2, ())
    assert contents(report.snapshot) == {"a": ("new", MINI), "b": ("prompt b", MINI)}


def test_an_upload_whose_index_is_rebuilt_meanwhile_is_refused(tmp_path: Path, repository: Repository) -> None:
    added(repository, line("a"))
    late = interrupted(tmp_path, lambda other: rebuild(other, backwards, "another"))
    with pytest.raises(EmbedderMismatch):
        added(late, line("a", model="maxi"), replace=True)
    assert repository.current().examples.example(0).scores == MINI


def test_an_example_that_is_removed_meanwhile_cannot_be_relabelled(tmp_path: Path, repository: Repository) -> None:
    added(repository, line("a"))
    late = interrupted(tmp_path, lambda other: remove(other, ["a"]))
    with pytest.raises(UnknownExample):
        relabel(late, "a", {"model": "maxi"}, FLEET)


def test_a_relabel_keeps_the_wording_that_another_writer_just_gave(tmp_path: Path, repository: Repository) -> None:
    added(repository, line("a"), line("b"))
    late = interrupted(tmp_path, lambda other: added(other, line("a", "reworded"), replace=True))
    assert contents(relabel(late, "a", {"model": "maxi"}, FLEET))["a"] == ("reworded", MAXI)


def test_of_8_writers_with_one_id_exactly_one_wins(tmp_path: Path, repository: Repository) -> None:
    start = Barrier(8)

    def write(number: int) -> str:
        mine = Repository(DirectoryStore(tmp_path), DIMENSIONS)
        start.wait(timeout=30)
        try:
            added(mine, line("contested", f"writer {number}"))
        except BadUpload as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(write, range(8)))
    assert told == ["nothing was applied: line 1: id 'contested' is already in the index"] * 7 + ["won"]
    assert len(repository.current()) == 1


def in_order(repository: Repository) -> Iterator[str]:
    return (manifest.message for _, manifest in repository.history(100))


def test_history_tells_each_edit(repository: Repository) -> None:
    added(repository, line("a"), line("b"))
    relabel(repository, "a", {"model": "maxi"}, FLEET)
    remove(repository, ["b"])
    rebuild(repository, backwards, "another")
    assert list(in_order(repository)) == [
        "rebuild with another embedder",
        "delete 1 example(s)",
        "relabel a",
        "add examples",
    ]
