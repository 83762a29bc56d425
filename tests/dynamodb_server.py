"""pytest plugin: a DynamoDB-compatible server in a process of its own, and the tables that tests run over. It also
stands for Secrets Manager, CloudFormation and, where a stack makes its bucket, S3."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3
import pytest
from botocore.config import Config

from handler.dynamo_table import DynamoTable
from handler.sqlite_table import SqliteTable
from handler.table import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

START_S = 30.0
_numbers = count()


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class OpenTable(Protocol):
    def __call__(self, now: Callable[[], float] = time.time) -> Table:
        """Another Table over the same records, as another process would have it."""
        ...


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def dynamodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "dynamodb,secretsmanager,s3,cloudformation",
        "LOG_LEVEL": "ERROR",
        "TMPDIR": str(tmp_path_factory.mktemp("dynamodb")),
    }
    command = [sys.executable, "-m", "ministack"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(process, f"{url}/_ministack/health")
            yield url
        finally:
            process.terminate()


def wait_until_healthy(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert process.poll() is None, "the DynamoDB server ended"
            assert time.monotonic() < deadline, f"the DynamoDB server did not start within {START_S:.0f} s"
            time.sleep(0.05)


@cache
def dynamodb_client(url: str, read_timeout: float = 10.0) -> "DynamoDBClient":
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=2, read_timeout=read_timeout, retries={"total_max_attempts": 1}),
    )


def create_dynamo_table(client: "DynamoDBClient", name: str) -> None:
    """The deployed one is made by CloudFormation."""
    client.create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": "kind", "KeyType": "HASH"},
            {"AttributeName": "id", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "kind", "AttributeType": "S"},
            {"AttributeName": "id", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def aws_environment(dynamodb_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's URL, which is all of AWS to the clients that this process makes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", dynamodb_server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return dynamodb_server


@pytest.fixture
def dynamo_table_name(dynamodb_server: str) -> str:
    """Of an empty table on the server."""
    name = f"table-{next(_numbers)}"
    create_dynamo_table(dynamodb_client(dynamodb_server), name)
    return name


@pytest.fixture(params=["sqlite", "dynamodb"])
def open_table_again(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenTable]:
    """Opens the test's own empty table, as often as wanted, on either store."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def open_it(now: Callable[[], float] = time.time) -> Table:
                return stack.enter_context(closing(SqliteTable(tmp_path / "table.db", now)))
        else:
            name: str = request.getfixturevalue("dynamo_table_name")
            url: str = request.getfixturevalue("dynamodb_server")

            def open_it(now: Callable[[], float] = time.time) -> Table:
                return DynamoTable(dynamodb_client(url), name, now)

        yield open_it


@pytest.fixture
def table(open_table_again: OpenTable) -> Table:
    return open_table_again()
