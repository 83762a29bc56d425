"""A version keeps its fit: the same as one that is found anew, and only for the fleet that it was found for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index import leave_one_out
from index.ballot import draw_up
from index.directory_store import DirectoryStore
from index.fit import Fit
from index.snapshot import Snapshot
from index.store import ObjectStore
from index.structure import NAMES
from index.types import Candidate, Rows
from index.versions import Change, Repository
from tests.tiny import DIMENSIONS, Interrupted, exact, measured, units

CHEAP, DEAR = Candidate("cheap", 1.0), Candidate("dear", 5.0)
FLEET = (CHEAP, DEAR)
OTHERS: dict[str, Sequence[Candidate]] = {
    "price": (CHEAP, replace(DEAR, cost=4.0)),
    "name": (CHEAP, replace(DEAR, name="another", like="dear")),
    "like": (CHEAP, replace(DEAR, like="cheap")),
    "order": (DEAR, CHEAP),
    "one more": (CHEAP, DEAR, Candidate("new", 2.0)),
    "one less": (DEAR,),
    "none": (),
}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def opened(store: ObjectStore, fleet: Sequence[Candidate] = FLEET) -> Repository:
    return Repository(store, DIMENSIONS, candidates=lambda: fleet)


def add(repository: Repository, rows: range) -> Snapshot:
    """Some of 200 examples."""
    added = measured(200).take(np.array(rows))
    return repository.commit(lambda _: Change(added), f"add {rows}", "tiny")


def forgetful(snapshot: Snapshot) -> Snapshot:
    """The same without what it keeps for a fleet."""
    return replace(snapshot, manifest=replace(snapshot.manifest, fit=None))


def decided(snapshot: Snapshot, fleet: Sequence[Candidate]) -> tuple[Rows, object]:
    """What dials 0, 3, 7 and 10 choose for 50 prompts, [4, 50], and the fit to the last bit."""
    rng = np.random.default_rng(7)
    ballot = draw_up(snapshot, fleet)
    quality = ballot.predict(units(rng, 50), rng.random((50, len(NAMES)), np.float32))
    cost = np.array([candidate.cost for candidate in fleet])
    rates = [ballot.fit.curve.rate(dial) for dial in (0, 3, 7, 10)]
    return np.array([(quality - rate * cost).argmax(axis=1) for rate in rates]), exact(ballot.fit)


def none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: object) -> Fit:
        raise AssertionError("a fit is found anew")

    monkeypatch.setattr(leave_one_out, "fit", find)


@pytest.mark.parametrize("count", [2, 30, 200])
def test_a_stored_fit_decides_as_one_that_is_found_anew(store: DirectoryStore, count: int) -> None:
    version = add(opened(store), range(count)).version
    loaded = Repository(store, DIMENSIONS).load(version)
    assert loaded.manifest.fit is not None
    stored, anew = decided(loaded, FLEET), decided(forgetful(loaded), FLEET)
    np.testing.assert_array_equal(stored[0], anew[0])
    assert stored[1] == anew[1] == exact(loaded.manifest.fit)
    assert count < 200 or len(np.unique(stored[0])) == 2


def test_a_stored_fit_is_taken_as_it_is(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = opened(store).load(add(opened(store), range(60)).version)
    none_is_found(monkeypatch)
    assert draw_up(loaded, FLEET).fit is loaded.manifest.fit
    assert draw_up(loaded, list(FLEET)).fit is loaded.manifest.fit
    for other in OTHERS.values():
        with pytest.raises(AssertionError, match="found anew"):
            draw_up(loaded, other)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_for_another_fleet_the_fit_is_found_anew(store: DirectoryStore, other: Sequence[Candidate]) -> None:
    loaded = opened(store).load(add(opened(store), range(60)).version)
    fit = draw_up(loaded, other).fit
    assert fit.candidates == tuple(other)
    assert exact(fit) == exact(draw_up(forgetful(loaded), other).fit)
    assert exact(fit) != exact(loaded.manifest.fit)


def test_without_a_fleet_no_fit_is_kept(store: DirectoryStore) -> None:
    assert add(Repository(store, DIMENSIONS), range(60)).manifest.fit is None
    assert add(opened(store, ()), range(60, 70)).manifest.fit is None


def test_each_edit_gives_a_version_a_fit_of_its_own(store: DirectoryStore) -> None:
    repository = opened(store)
    add(repository, range(60))
    add(repository, range(60, 70))
    repository.commit(lambda _: Change(None, (0, 1, 2)), "drop")
    repository.replace_all(lambda base: base.examples.take(np.arange(40)), "rebuild", "tiny")
    fits = [manifest.fit for _, manifest in repository.history(10)]
    assert [fit.curve.examples for fit in fits if fit is not None] == [40, 67, 70, 60]


def test_a_version_rolled_back_to_has_its_fit_again(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = opened(store)
    first = add(repository, range(60))
    add(repository, range(60, 70))
    none_is_found(monkeypatch)
    back = opened(store).roll_back(first.version)
    assert exact(back.manifest.fit) == exact(first.manifest.fit)
    np.testing.assert_array_equal(decided(back, FLEET)[0], decided(first, FLEET)[0])


@pytest.mark.parametrize("at_first", [FLEET, ()], ids=["another fleet", "none"])
def test_a_roll_back_s_fit_is_for_the_fleet_of_its_own_time(
    store: DirectoryStore, at_first: Sequence[Candidate]
) -> None:
    first = add(opened(store, at_first), range(60))
    add(opened(store, at_first), range(60, 70))
    dearer = (CHEAP, replace(DEAR, cost=6.0))
    back = opened(store, dearer).roll_back(first.version)
    assert back.manifest.fit is not None
    assert back.manifest.fit.candidates == dearer
    assert exact(back.manifest.fit) == exact(draw_up(forgetful(first), dearer).fit)


def test_a_writer_that_lost_a_race_keeps_a_fit_for_what_it_lands_on(store: DirectoryStore) -> None:
    add(opened(store), range(60))
    mine = opened(Interrupted(store, lambda: add(opened(store), range(60, 70))))
    landed = add(mine, range(70, 90))
    assert landed.manifest.fit is not None
    assert landed.manifest.fit.curve.examples == 90
    assert exact(landed.manifest.fit) == exact(draw_up(forgetful(landed), FLEET).fit)


def test_a_roll_back_that_lost_a_race_finds_no_second_fit(store: DirectoryStore) -> None:
    first = add(opened(store, ()), range(60))
    add(opened(store, ()), range(60, 70))
    asked: list[Sequence[Candidate]] = []

    def fleet() -> Sequence[Candidate]:
        asked.append(FLEET)
        return FLEET

    racing = Interrupted(store, lambda: add(opened(store), range(70, 80)))
    back = Repository(racing, DIMENSIONS, candidates=fleet).roll_back(first.version)
    assert (back.manifest.number, len(back), len(asked)) == (4, 60, 1)
    assert exact(back.manifest.fit) == exact(draw_up(forgetful(first), FLEET).fit)
