"""Records in a DynamoDB table: partition key `kind`, sort key `id`, TTL attribute `expires_at`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handler.table import (
    Count,
    OverLimit,
    Record,
    RecordConflict,
    TableError,
    TableUnavailable,
    decode_record,
    encode_value,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    Item = Mapping[str, AttributeValueTypeDef]

# An expired item stays until DynamoDB gets round to it, up to days later: until then it counts as absent.
_ABSENT = "attribute_not_exists(id) OR expires_at <= :now"
_UNCHANGED = "revision = :expected AND (attribute_not_exists(expires_at) OR expires_at > :now)"


def connect(name: str, now: Callable[[], float] = time.time) -> "DynamoTable":
    """The table of that name. A call ends within about 15 s: two attempts of at most 2 + 5 s."""
    config = Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=50,
    )
    try:
        return DynamoTable(boto3.client("dynamodb", config=config), name, now)
    except BotoCoreError as error:
        raise TableUnavailable(f"DynamoDB table {name}: {error}") from error


class DynamoTable:
    """Reads are strongly consistent. The client's timeouts bound every call."""

    def __init__(self, client: "DynamoDBClient", table_name: str, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._name = table_name
        self._now = now

    def get(self, kind: str, id: str) -> Record | None:
        with self._translated(kind, id):
            answer = self._client.get_item(TableName=self._name, Key=_key(kind, id), ConsistentRead=True)
        item = answer.get("Item")
        return _record(item) if item and self._live(item) else None

    def put(
        self,
        kind: str,
        id: str,
        value: Mapping[str, Any],
        expected: int | None,
        expires_at: int | None = None,
    ) -> Record:
        text = encode_value(value)
        revision = (expected or 0) + 1
        item: dict[str, AttributeValueTypeDef] = {
            **_key(kind, id),
            "value": {"S": text},
            "revision": {"N": str(revision)},
        }
        if expires_at is not None:
            item["expires_at"] = {"N": str(expires_at)}
        values: dict[str, AttributeValueTypeDef] = {":now": {"N": str(int(self._now()))}}
        if expected is not None:
            values[":expected"] = {"N": str(expected)}
        with self._translated(kind, id):
            self._client.put_item(
                TableName=self._name,
                Item=item,
                ConditionExpression=_ABSENT if expected is None else _UNCHANGED,
                ExpressionAttributeValues=values,
            )
        return decode_record(id, text, revision)

    def write(self, kind: str, id: str, value: Mapping[str, Any], expires_at: int) -> None:
        item: dict[str, AttributeValueTypeDef] = {
            **_key(kind, id),
            "value": {"S": encode_value(value)},
            "revision": {"N": "1"},
            "expires_at": {"N": str(expires_at)},
        }
        with self._translated(kind, id):
            self._client.put_item(TableName=self._name, Item=item)

    def count(self, kind: str, counts: Sequence[Count]) -> None:
        """One update a count; where one is refused, those before it are taken back. Not one transaction: those fail
        where many callers count at once, as they do here. Until it is taken back, a count stands in others' way.
        Where the store fails in the middle, what was added stays."""
        for place, count in enumerate(counts):
            try:
                self._add(kind, count)
            except OverLimit:
                for earlier in counts[:place]:
                    self._take_back(kind, earlier)
                raise

    def counters(self, kind: str) -> Mapping[str, Mapping[str, int]]:
        return {item["id"]["S"]: _numbers(item) for item in self._items(kind) if self._live(item)}

    def _take_back(self, kind: str, count: Count) -> None:
        amounts = {counter: -amount for counter, amount in count.amounts.items()}
        self._add(kind, replace(count, amounts=amounts, limits={}))

    def _add(self, kind: str, count: Count) -> None:
        """Counters are attributes `n_<name>`."""
        names = {f"#{place}": f"n_{counter}" for place, counter in enumerate(count.amounts)}
        values: dict[str, AttributeValueTypeDef] = {
            f":{place}": {"N": str(amount)} for place, amount in enumerate(count.amounts.values())
        }
        added = ", ".join(f"#{place} :{place}" for place in range(len(names)))
        conditions = []
        for place, (counter, amount) in enumerate(count.amounts.items()):
            if counter in count.limits:
                values[f":room{place}"] = {"N": str(count.limits[counter] - amount)}
                room = f"#{place} <= :room{place}"
                within = amount <= count.limits[counter]
                conditions.append(f"(attribute_not_exists(#{place}) OR {room})" if within else room)
        update = f"ADD {added}"
        if count.expires_at is not None:
            update = f"SET expires_at = :expires {update}"
            values[":expires"] = {"N": str(count.expires_at)}
        condition: dict[str, Any] = {"ConditionExpression": " AND ".join(conditions)} if conditions else {}
        try:
            self._client.update_item(
                TableName=self._name,
                Key=_key(kind, count.id),
                UpdateExpression=update,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                **condition,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise OverLimit(count.id) from error
            raise TableUnavailable(f"DynamoDB table {self._name}: {error}") from error
        except BotoCoreError as error:
            raise TableUnavailable(f"DynamoDB table {self._name}: {error}") from error

    def delete(self, kind: str, id: str) -> bool:
        with self._translated(kind, id):
            answer = self._client.delete_item(TableName=self._name, Key=_key(kind, id), ReturnValues="ALL_OLD")
        item = answer.get("Attributes")
        return bool(item) and self._live(item)

    def list(self, kind: str) -> list[Record]:
        return [_record(item) for item in self._items(kind) if self._live(item)]

    def _items(self, kind: str) -> "Sequence[Item]":
        with self._translated(kind, "*"):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._name,
                KeyConditionExpression="kind = :kind",
                ExpressionAttributeValues={":kind": {"S": kind}},
                ConsistentRead=True,
            )
            return [item for page in pages for item in page["Items"]]

    def _live(self, item: "Item") -> bool:
        return "expires_at" not in item or int(item["expires_at"]["N"]) > int(self._now())

    @contextmanager
    def _translated(self, kind: str, id: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise RecordConflict(kind, id) from error
            raise TableUnavailable(f"DynamoDB table {self._name}: {error}") from error
        except BotoCoreError as error:
            raise TableUnavailable(f"DynamoDB table {self._name}: {error}") from error


def _key(kind: str, id: str) -> "dict[str, AttributeValueTypeDef]":
    return {"kind": {"S": kind}, "id": {"S": id}}


def _numbers(item: "Item") -> dict[str, int]:
    return {name.removeprefix("n_"): int(value["N"]) for name, value in item.items() if name.startswith("n_")}


def _record(item: "Item") -> Record:
    try:
        return decode_record(item["id"]["S"], item["value"]["S"], int(item["revision"]["N"]))
    except KeyError as error:
        raise TableError(f"an item lacks {error}") from error
