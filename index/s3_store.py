"""Objects in an S3 bucket; compare-and-swap by conditional writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from index.errors import Conflict, StoreUnavailable
from index.store import Stored, check_key, check_prefix, is_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, PutObjectOutputTypeDef

MISSING = "NoSuchKey"
LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", MISSING})
"""Codes of a conditional write that came second; S3 answers an If-Match on a missing key with NoSuchKey."""


def s3_client() -> "S3Client":
    """A client whose every wait is bounded."""
    config = Config(
        connect_timeout=2,
        read_timeout=20,
        retries={"mode": "standard", "max_attempts": 3},
        max_pool_connections=10,
    )
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise StoreUnavailable(f"cannot set up S3: {error}") from error


class S3Store:
    """Objects below `prefix` of a bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._base = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""

    def get(self, key: str, unless: str | None = None) -> Stored | None:
        with self._translated("read", key):
            try:
                answer = self._get_object(self._name(key), unless)
                return Stored(answer["Body"].read(), answer["ETag"])
            except ClientError as error:
                if unless is not None and _status(error) == 304:
                    return Stored(b"", unless)
                if _code(error) == MISSING:
                    return None
                raise

    def put(self, key: str, data: bytes) -> None:
        with self._translated("write", key):
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def swap(self, key: str, data: bytes, expected: str | None) -> str:
        with self._translated("write", key):
            try:
                return self._put_if(self._name(key), data, expected)["ETag"]
            except ClientError as error:
                if _status(error) == 412 or _code(error) in LOST:
                    raise Conflict(f"another writer changed {key} first") from error
                raise

    def delete(self, key: str) -> None:
        with self._translated("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def keys(self, prefix: str) -> Iterator[str]:
        start = self._base + check_prefix(prefix)
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
            names = [item["Key"].removeprefix(self._base) for page in pages for item in page.get("Contents", [])]
        # Sorted here too: not every S3-compatible server lists in the order of the keys' bytes.
        return iter(sorted(filter(is_key, names)))

    def _name(self, key: str) -> str:
        return self._base + check_key(key)

    def _get_object(self, name: str, unless: str | None) -> "GetObjectOutputTypeDef":
        if unless is None:
            return self._client.get_object(Bucket=self._bucket, Key=name)
        return self._client.get_object(Bucket=self._bucket, Key=name, IfNoneMatch=unless)

    def _put_if(self, name: str, data: bytes, expected: str | None) -> "PutObjectOutputTypeDef":
        if expected is None:
            return self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
        return self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfMatch=expected)

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            # The code only: what else a server says may repeat what was sent to it.
            reason = f"{_code(error)} ({_status(error)})"
            raise StoreUnavailable(f"cannot {operation} {key!r} in bucket {self._bucket}: {reason}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"cannot {operation} {key!r} in bucket {self._bucket}: {error}") from error


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
