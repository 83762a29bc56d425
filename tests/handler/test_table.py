import json
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from subprocess import PIPE

import pytest

from handler.dynamo_table import DynamoTable
from handler.sqlite_table import SqliteTable
from handler.table import Record, RecordConflict, Table, TableError, TableUnavailable, open_table
from tests.dynamodb_server import Clock, OpenTable, dynamodb_client, free_port

ROOT = Path(__file__).parents[2]


def add_one(table: Table) -> None:
    while True:
        record = table.get("counter", "n")
        assert record is not None
        try:
            table.put("counter", "n", {"count": record.value["count"] + 1}, record.revision)
            return
        except RecordConflict:
            pass


def test_a_record_is_read_as_it_was_written(table: Table) -> None:
    value = {"text": "naïve ☃", "list": [1, 2.5, None, True], "map": {"a": {}}}
    assert table.put("key", "a", value, None) == Record("a", value, 1)
    assert table.get("key", "a") == Record("a", value, 1)


def test_each_write_raises_the_revision_and_replaces_the_value(table: Table) -> None:
    table.put("key", "a", {"n": 1, "old": True}, None)
    assert table.put("key", "a", {"n": 2}, 1) == Record("a", {"n": 2}, 2)
    assert table.get("key", "a") == Record("a", {"n": 2}, 2)


def test_an_absent_record_is_none(table: Table) -> None:
    assert table.get("key", "a") is None
    assert table.list("key") == []
    assert table.delete("key", "a") is False


def test_creating_what_exists_raises_conflict(table: Table) -> None:
    table.put("key", "a", {"n": 1}, None)
    with pytest.raises(RecordConflict):
        table.put("key", "a", {"n": 2}, None)
    assert table.get("key", "a") == Record("a", {"n": 1}, 1)


@pytest.mark.parametrize("expected", [1, 3])
def test_another_revision_than_the_expected_raises_conflict(table: Table, expected: int) -> None:
    table.put("key", "a", {"n": 1}, None)
    table.put("key", "a", {"n": 2}, 1)
    with pytest.raises(RecordConflict):
        table.put("key", "a", {"n": 3}, expected)
    assert table.get("key", "a") == Record("a", {"n": 2}, 2)


def test_changing_what_does_not_exist_raises_conflict(table: Table) -> None:
    with pytest.raises(RecordConflict):
        table.put("key", "a", {"n": 1}, 1)
    assert table.get("key", "a") is None


def test_a_deleted_record_is_gone_and_can_be_created_again(table: Table) -> None:
    table.put("key", "a", {"n": 1}, None)
    table.put("key", "a", {"n": 2}, 1)
    assert table.delete("key", "a") is True
    assert table.get("key", "a") is None
    assert table.put("key", "a", {"n": 3}, None).revision == 1


def test_what_json_cannot_hold_is_refused_before_it_is_written(table: Table) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        table.put("key", "a", {"n": float("nan")}, None)
    assert table.get("key", "a") is None


def test_a_list_is_in_the_order_of_ids_and_holds_one_kind(table: Table) -> None:
    for name in ("b", "é", "a", "Z", "10", "9"):
        table.put("key", name, {"name": name}, None)
    table.put("other", "c", {}, None)
    assert [record.id for record in table.list("key")] == ["10", "9", "Z", "a", "b", "é"]
    assert table.list("other") == [Record("c", {}, 1)]


def test_a_list_larger_than_one_page_is_whole(table: Table) -> None:
    text = "x" * 200_000  # DynamoDB answers with at most 1 MB at a time
    for number in range(12):
        table.put("key", f"{number:02}", {"text": text}, None)
    assert [(record.id, len(record.value["text"])) for record in table.list("key")] == [
        (f"{number:02}", 200_000) for number in range(12)
    ]


def test_an_expired_record_counts_as_absent(open_table_again: OpenTable) -> None:
    clock = Clock(1_000.0)
    table = open_table_again(clock)
    table.put("key", "a", {"n": 1}, None, expires_at=1_010)
    table.put("key", "b", {"n": 1}, None, expires_at=1_020)
    clock.seconds = 1_009.9
    assert [record.id for record in table.list("key")] == ["a", "b"]

    clock.seconds = 1_010.0
    assert table.get("key", "a") is None
    assert [record.id for record in table.list("key")] == ["b"]
    with pytest.raises(RecordConflict):
        table.put("key", "a", {"n": 2}, 1)
    assert table.delete("key", "a") is False
    assert table.put("key", "a", {"n": 3}, None) == Record("a", {"n": 3}, 1)


def test_an_expired_record_is_replaced_by_a_new_one(open_table_again: OpenTable) -> None:
    clock = Clock(1_000.0)
    table = open_table_again(clock)
    table.put("key", "a", {"n": 1}, None, expires_at=1_010)
    table.put("key", "a", {"n": 2}, 1, expires_at=1_010)
    clock.seconds = 1_011.0
    assert table.put("key", "a", {"n": 3}, None, expires_at=1_020) == Record("a", {"n": 3}, 1)
    assert table.get("key", "a") == Record("a", {"n": 3}, 1)


def test_a_write_sets_or_takes_away_the_expiry(open_table_again: OpenTable) -> None:
    clock = Clock(1_000.0)
    table = open_table_again(clock)
    table.put("key", "kept", {}, None, expires_at=1_010)
    table.put("key", "kept", {}, 1)
    table.put("key", "lost", {}, None)
    table.put("key", "lost", {}, 1, expires_at=1_010)
    clock.seconds = 2_000.0
    assert [record.id for record in table.list("key")] == ["kept"]


def test_no_increment_of_eight_threads_is_lost(table: Table) -> None:
    table.put("counter", "n", {"count": 0}, None)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(add_one, table) for _ in range(8 * 25)]:
            done.result()
    assert table.get("counter", "n") == Record("n", {"count": 200}, 201)


def test_of_eight_threads_one_creates_a_record(table: Table) -> None:
    def create(number: int) -> bool:
        try:
            table.put("key", "a", {"number": number}, None)
        except RecordConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(8))) == 1


INCREMENTS_IN_A_PROCESS = """
import sys
from pathlib import Path
from handler.sqlite_table import SqliteTable
from handler.table import RecordConflict

print("ready", flush=True)
sys.stdin.readline()
table = SqliteTable(Path(sys.argv[1]))
done = 0
while done < 25:
    record = table.get("counter", "n")
    count, revision = (record.value["count"], record.revision) if record else (0, None)
    try:
        table.put("counter", "n", {"count": count + 1}, revision)
        done += 1
    except RecordConflict:
        pass
"""


def test_no_increment_of_four_processes_that_open_a_new_sqlite_file_at_once_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "table.db"
    command = [sys.executable, "-c", INCREMENTS_IN_A_PROCESS, str(path)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE)) for _ in range(4)
        ]
        for process in processes:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    with closing(SqliteTable(path)) as table:
        assert table.get("counter", "n") == Record("n", {"count": 100}, 100)


def test_only_the_owner_can_read_the_sqlite_files(tmp_path: Path) -> None:
    with closing(SqliteTable(tmp_path / "table.db")) as table:
        table.put("key", "a", {}, None)
        files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert files == {"table.db": 0o600, "table.db-wal": 0o600, "table.db-shm": 0o600}


def test_sqlite_removes_expired_records_when_others_are_created(tmp_path: Path) -> None:
    clock = Clock(1_000.0)
    path = tmp_path / "table.db"
    with closing(SqliteTable(path, clock)) as table:
        for number in range(150):
            table.put("session", str(number), {}, None, expires_at=1_010)
        clock.seconds = 1_010.0
        table.put("session", "new", {}, None)
        table.put("session", "newer", {}, None)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM records").fetchall() == [("new",), ("newer",)]


def test_a_damaged_record_is_an_error_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "table.db"
    with closing(SqliteTable(path)) as table:
        table.put("key", "a", {"n": 1}, None)
        for text in ("{", json.dumps([1])):
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("UPDATE records SET value = ?", (text,))
            with pytest.raises(TableError, match="'a' is damaged"):
                table.get("key", "a")


def test_an_item_that_is_not_ours_is_an_error_of_the_table(dynamodb_server: str, dynamo_table_name: str) -> None:
    client = dynamodb_client(dynamodb_server)
    client.put_item(TableName=dynamo_table_name, Item={"kind": {"S": "key"}, "id": {"S": "a"}})
    with pytest.raises(TableError, match="lacks 'value'"):
        DynamoTable(client, dynamo_table_name).list("key")


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "table.db"
    path.write_text("this is a text file, and a rather long one so that it is not taken for an empty database")
    with pytest.raises(TableUnavailable):
        SqliteTable(path)


def test_a_missing_directory_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(TableUnavailable):
        SqliteTable(tmp_path / "missing" / "table.db")


def test_a_closed_sqlite_table_is_unavailable(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "table.db")
    table.close()
    with pytest.raises(TableUnavailable):
        table.get("key", "a")


def assert_unavailable(table: Table) -> None:
    with pytest.raises(TableUnavailable):
        table.get("key", "a")
    with pytest.raises(TableUnavailable):
        table.put("key", "a", {}, None)
    with pytest.raises(TableUnavailable):
        table.delete("key", "a")
    with pytest.raises(TableUnavailable):
        table.list("key")


def test_a_missing_dynamodb_table_is_unavailable(dynamodb_server: str) -> None:
    assert_unavailable(DynamoTable(dynamodb_client(dynamodb_server), "no-such-table"))


def test_a_silent_dynamodb_is_unavailable_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        table = DynamoTable(dynamodb_client(url, read_timeout=0.2), "table")
        started = time.monotonic()
        assert_unavailable(table)
        assert time.monotonic() - started < 5.0


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return monkeypatch


def test_an_unreachable_dynamodb_is_unavailable_in_bounded_time(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    assert_unavailable(open_table("dynamodb://nearvote"))
    assert time.monotonic() - started < 20.0


def test_a_dynamodb_url_opens_the_table_of_that_name(
    dynamodb_server: str, dynamo_table_name: str, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_server)
    open_table(f"dynamodb://{dynamo_table_name}").put("key", "a", {"n": 1}, None)
    direct = DynamoTable(dynamodb_client(dynamodb_server), dynamo_table_name)
    assert direct.get("key", "a") == Record("a", {"n": 1}, 1)


def test_a_path_opens_a_sqlite_table(tmp_path: Path) -> None:
    table = open_table(str(tmp_path / "table.db"))
    assert isinstance(table, SqliteTable)
    with closing(table):
        table.put("key", "a", {"n": 1}, None)
    with closing(SqliteTable(tmp_path / "table.db")) as again:
        assert again.get("key", "a") == Record("a", {"n": 1}, 1)


@pytest.mark.parametrize("url", ["", "postgres://host/db", "dynamodb://", "dynamodb://a/b"])
def test_a_url_that_names_no_table_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="dynamodb://table-name"):
        open_table(url)


def test_a_sqlite_table_does_not_import_boto3(tmp_path: Path) -> None:
    code = (
        "import sys; from handler.table import open_table; open_table(sys.argv[1]).close();"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.db")], cwd=ROOT, check=True, timeout=30)
