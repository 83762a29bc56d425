import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from pydantic import ValidationError

from handler.keys import KeyChange, KeyRecord, KeyStore, NewKey, Routing, UnknownKey
from handler.table import Count, Record, Table, TableError
from tests.dynamodb_server import Clock, OpenTable

PEPPER = b"a pepper for tests"
UNKNOWN = f"nv-{'0' * 12}-{'a' * 43}"


class CountingTable:
    """Passes every call on, counts the reads, and can let something happen before one is answered."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.reads = 0
        self.meanwhile: Callable[[], object] | None = None

    def get(self, kind: str, id: str) -> Record | None:
        self.reads += 1
        record = self.table.get(kind, id)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return record

    def put(
        self,
        kind: str,
        id: str,
        value: Mapping[str, Any],
        expected: int | None,
        expires_at: int | None = None,
    ) -> Record:
        return self.table.put(kind, id, value, expected, expires_at)

    def delete(self, kind: str, id: str) -> bool:
        return self.table.delete(kind, id)

    def write(self, kind: str, id: str, value: Mapping[str, Any], expires_at: int) -> None:
        self.table.write(kind, id, value, expires_at)

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        self.table.count(kind, counts)

    def counters(self, kind: str) -> Mapping[str, Mapping[str, int]]:
        return self.table.counters(kind)

    def list(self, kind: str) -> list[Record]:
        return self.table.list(kind)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000.0)


@pytest.fixture
def counted(table: Table) -> CountingTable:
    return CountingTable(table)


@pytest.fixture
def keys(counted: CountingTable, clock: Clock) -> KeyStore:
    return KeyStore(counted, PEPPER, clock)


@pytest.fixture
def other(open_table_again: OpenTable, clock: Clock) -> KeyStore:
    """The same keys in another process."""
    return KeyStore(open_table_again(), PEPPER, clock)


def test_a_new_key_has_the_format_and_safe_defaults(keys: KeyStore) -> None:
    record, key = keys.create(NewKey(name="ci"))
    assert re.fullmatch(r"nv-[0-9a-f]{12}-[0-9A-Za-z]{43}", key)
    assert record.public() == {
        "id": key.split("-")[1],
        "name": "ci",
        "admin": False,
        "routing": "off",
        "default_model": None,
        "dial": 7,
        "allow": [],
        "exclude": [],
        "route_models": [],
        "baseline_model": None,
        "budget_day": None,
        "budget_month": None,
        "budget_total": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
        "max_latency_ms": None,
        "speed": None,
        "created_at": "1970-01-01T00:16:40+00:00",
        "expires_at": None,
        "revoked": False,
    }


def test_a_key_keeps_all_that_it_was_created_with(keys: KeyStore, other: KeyStore) -> None:
    new = NewKey(
        name="ops",
        admin=True,
        routing=Routing.FORECAST,
        default_model="gpt-x",
        dial=2.5,
        allow=("gpt-*", "claude-*"),
        exclude=("*-mini",),
        expires_at=2_000,
    )
    record, key = keys.create(new)
    assert NewKey(**{name: getattr(record, name) for name in NewKey.model_fields}) == new
    assert other.authenticate(key) == record
    assert other.get(record.id) == record


def test_a_key_is_authenticated_in_its_own_and_in_another_process(keys: KeyStore, other: KeyStore) -> None:
    record, key = keys.create(NewKey(name="a"))
    assert keys.authenticate(key) == record
    assert other.authenticate(key) == record


def test_a_wrong_secret_with_the_right_id_is_refused(keys: KeyStore, other: KeyStore) -> None:
    _, key = keys.create(NewKey(name="a"))
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    for store in (keys, other):
        assert store.authenticate(wrong) is None
        assert store.peek(wrong) is None
        assert store.authenticate(key) is not None
        assert store.peek(wrong) is None


def test_the_secret_of_another_key_is_refused(keys: KeyStore) -> None:
    _, one = keys.create(NewKey(name="one"))
    _, two = keys.create(NewKey(name="two"))
    assert keys.authenticate(one[:16] + two[16:]) is None


def test_another_pepper_makes_every_key_wrong(keys: KeyStore, table: Table) -> None:
    _, key = keys.create(NewKey(name="a"))
    assert KeyStore(table, b"another pepper").authenticate(key) is None


def test_an_empty_pepper_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="pepper"):
        KeyStore(table, b"")


def test_an_unknown_key_is_refused(keys: KeyStore) -> None:
    assert keys.authenticate(UNKNOWN) is None


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "nv-",
        "sk-" + UNKNOWN[3:],
        UNKNOWN + "\n",
        UNKNOWN + "a",
        UNKNOWN[:-1],
        UNKNOWN[:-1] + "-",
        UNKNOWN[:-1] + "é",
        UNKNOWN.upper(),
        UNKNOWN.replace("0", "\u0660"),
        "x" * 1_000_000,
    ],
    ids=lambda presented: repr(presented[:20]),
)
def test_a_malformed_key_never_reaches_the_table(keys: KeyStore, counted: CountingTable, presented: str) -> None:
    assert keys.peek(presented) is None
    assert keys.authenticate(presented) is None
    assert counted.reads == 0


def test_a_malformed_id_never_reaches_the_table(keys: KeyStore, counted: CountingTable) -> None:
    assert keys.get("") is None
    with pytest.raises(UnknownKey):
        keys.revoke("../x")
    assert counted.reads == 0


def test_a_key_is_peeked_at_only_while_what_was_read_is_fresh(
    keys: KeyStore, other: KeyStore, counted: CountingTable, clock: Clock
) -> None:
    record, key = other.create(NewKey(name="a"))
    assert keys.peek(key) is None
    assert keys.authenticate(key) == record
    clock.seconds += 2.9
    assert keys.peek(key) == record
    assert keys.authenticate(key) == record
    assert counted.reads == 1

    clock.seconds += 0.1
    assert keys.peek(key) is None
    assert keys.authenticate(key) == record
    assert counted.reads == 2


def test_wrong_secrets_for_a_known_id_cost_no_further_read(keys: KeyStore, counted: CountingTable) -> None:
    record, key = keys.create(NewKey(name="a"))
    for letter in "abcdef":
        assert keys.authenticate(f"nv-{record.id}-{letter * 43}") is None
    assert keys.authenticate(key) == record
    assert counted.reads == 0


def test_a_clock_that_goes_back_makes_the_table_be_read_again(
    keys: KeyStore, counted: CountingTable, clock: Clock
) -> None:
    _, key = keys.create(NewKey(name="a"))
    clock.seconds -= 100.0
    assert keys.peek(key) is None
    assert keys.authenticate(key) is not None
    assert counted.reads == 1


def test_made_up_ids_do_not_push_real_keys_out(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.keys._CACHED_KEYS", 3)
    _, key = keys.create(NewKey(name="a"))
    for number in range(10):
        assert keys.authenticate(f"nv-{number:012x}-{'a' * 43}") is None
    assert keys.peek(key) is not None


def test_the_number_of_remembered_keys_is_bounded(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handler.keys._CACHED_KEYS", 3)
    created = [keys.create(NewKey(name=str(number))) for number in range(5)]
    assert [keys.peek(key) is not None for _, key in created] == [False, False, True, True, True]
    assert all(keys.authenticate(key) == record for record, key in created)


def test_a_revoked_key_stops_here_at_once_and_elsewhere_within_the_ttl(
    keys: KeyStore, other: KeyStore, clock: Clock
) -> None:
    record, key = keys.create(NewKey(name="a"))
    assert other.authenticate(key) == record

    assert keys.revoke(record.id) == record.model_copy(update={"revoked": True})
    assert keys.peek(key) is None
    assert keys.authenticate(key) is None

    clock.seconds += 3.0
    assert other.peek(key) is None
    assert other.authenticate(key) is None


def test_a_read_that_a_revocation_overtook_does_not_bring_the_key_back(
    keys: KeyStore, counted: CountingTable, clock: Clock
) -> None:
    record, key = keys.create(NewKey(name="a"))
    clock.seconds += 3.0
    counted.meanwhile = lambda: keys.revoke(record.id)
    assert keys.authenticate(key) == record  # it was read before
    assert keys.authenticate(key) is None


def test_a_revoked_key_stays_listed(keys: KeyStore, other: KeyStore) -> None:
    record, _ = keys.create(NewKey(name="a"))
    keys.revoke(record.id)
    assert [(one.id, one.name, one.revoked) for one in other.list()] == [(record.id, "a", True)]
    assert keys.revoke(record.id).revoked is True


def test_a_change_is_live_here_at_once_and_elsewhere_within_the_ttl(
    keys: KeyStore, other: KeyStore, clock: Clock
) -> None:
    record, key = keys.create(NewKey(name="a"))
    assert other.authenticate(key) == record
    changed = keys.change(record.id, KeyChange(routing=Routing.ON, dial=3))
    assert changed == record.model_copy(update={"routing": Routing.ON, "dial": 3})
    assert keys.peek(key) == changed
    clock.seconds += 3.0
    assert other.authenticate(key) == changed


def test_an_expired_key_stops_and_works_again_when_its_expiry_is_moved(keys: KeyStore, clock: Clock) -> None:
    record, key = keys.create(NewKey(name="a", expires_at=1_001))
    assert keys.authenticate(key) == record
    clock.seconds = 1_001.0
    assert keys.peek(key) is None
    assert keys.authenticate(key) is None
    assert keys.list() == [record]

    keys.change(record.id, KeyChange(expires_at=None))
    assert keys.authenticate(key) == record.model_copy(update={"expires_at": None})


def test_only_the_given_fields_change_and_null_is_a_value(keys: KeyStore) -> None:
    record, _ = keys.create(NewKey(name="a", default_model="gpt-x", dial=2, allow=("gpt-*",)))
    assert keys.change(record.id, KeyChange()) == record
    change = KeyChange.model_validate({"default_model": None, "name": "b"})
    assert keys.change(record.id, change) == record.model_copy(update={"default_model": None, "name": "b"})


def test_concurrent_changes_of_different_fields_are_all_kept(keys: KeyStore, other: KeyStore) -> None:
    record, _ = keys.create(NewKey(name="a"))
    changes = [
        KeyChange(name="b"),
        KeyChange(routing=Routing.ON),
        KeyChange(default_model="gpt-x"),
        KeyChange(dial=1),
        KeyChange(allow=("gpt-*",)),
        KeyChange(exclude=("*-mini",)),
        KeyChange(expires_at=5_000),
    ]
    together = Barrier(len(changes))

    def apply(number: int) -> None:
        together.wait(timeout=10)
        (keys, other)[number % 2].change(record.id, changes[number])

    with ThreadPoolExecutor(len(changes)) as threads:
        list(threads.map(apply, range(len(changes))))
    assert keys.get(record.id) == record.model_copy(
        update={
            "name": "b",
            "routing": Routing.ON,
            "default_model": "gpt-x",
            "dial": 1.0,
            "allow": ("gpt-*",),
            "exclude": ("*-mini",),
            "expires_at": 5_000,
        }
    )


def test_a_revocation_is_not_undone_by_a_change_made_at_the_same_time(keys: KeyStore) -> None:
    record, key = keys.create(NewKey(name="a"))
    with ThreadPoolExecutor(4) as threads:
        changes = [threads.submit(keys.change, record.id, KeyChange(dial=n)) for n in range(10)]
        threads.submit(keys.revoke, record.id).result()
        for change in changes:
            change.result()
    assert keys.authenticate(key) is None


def test_an_unknown_id_cannot_be_changed_or_revoked(keys: KeyStore) -> None:
    assert keys.get("0" * 12) is None
    with pytest.raises(UnknownKey, match="'000000000000'"):
        keys.change("0" * 12, KeyChange(name="b"))
    with pytest.raises(UnknownKey, match="'000000000000'"):
        keys.revoke("0" * 12)


def test_keys_are_listed_by_id(keys: KeyStore) -> None:
    created = [keys.create(NewKey(name=str(number)))[0] for number in range(5)]
    assert keys.list() == sorted(created, key=lambda record: record.id)


def test_neither_the_secret_nor_its_digest_is_in_what_may_be_shown(keys: KeyStore, table: Table) -> None:
    record, key = keys.create(NewKey(name="a"))
    secret = key.split("-")[2]
    shown = f"{record!r} {record} {record.public()} {keys!r} {keys.list()}"
    assert secret not in shown
    assert record.digest not in shown
    assert PEPPER.decode() not in shown

    stored = table.get("key", record.id)
    assert stored is not None
    assert secret not in str(stored)


def test_a_record_that_cannot_be_read_is_an_error_without_its_digest(keys: KeyStore, table: Table) -> None:
    record, key = keys.create(NewKey(name="a"))
    stored = table.get("key", record.id)
    assert stored is not None
    table.put("key", record.id, {**stored.value, "dial": 11}, stored.revision)
    with pytest.raises(TableError) as raised:
        KeyStore(table, PEPPER).authenticate(key)
    assert record.digest not in f"{raised.value} {raised.value.__cause__}"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": None},
        {"name": ""},
        {"name": "n" * 101},
        {"dial": -0.1},
        {"dial": 10.1},
        {"dial": float("nan")},
        {"dial": "7"},
        {"dial": True},
        {"dial": None},
        {"routing": "maybe"},
        {"routing": True},
        {"allow": "gpt-*"},
        {"allow": [""]},
        {"allow": ["gpt-*"] * 101},
        {"expires_at": 0},
        {"expires_at": "tomorrow"},
        {"revoked": False},
        {"digest": "0" * 64},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_wrong_field_is_refused_in_a_new_key_and_in_a_change(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewKey.model_validate({"name": "a", **fields})
    with pytest.raises(ValidationError):
        KeyChange.model_validate(fields)


def test_a_key_cannot_be_made_an_admin_by_a_change() -> None:
    with pytest.raises(ValidationError):
        KeyChange.model_validate({"admin": True})
    with pytest.raises(ValidationError):
        NewKey.model_validate({"name": "a", "admin": "yes"})


def test_a_record_reads_back_from_its_json(keys: KeyStore) -> None:
    record, _ = keys.create(NewKey(name="a", allow=("gpt-*",), routing=Routing.ON))
    assert KeyRecord.model_validate_json(record.model_dump_json()) == record
