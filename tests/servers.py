"""Real servers on loopback for the tests, each ended by the handle that started it."""

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from mypy_boto3_s3 import S3Client

START_S = 30.0
BUCKET = "tests"
"""Exists once the server is up; a test takes a prefix of its own, as each new bucket costs disk volumes."""
PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class S3Server:
    """SeaweedFS; takes any credentials."""

    endpoint: str

    def client(self) -> S3Client:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1}),
        )


def free_ports(count: int) -> list[int]:
    """Below the range from which the system numbers outgoing connections, so none is taken before its use."""
    with contextlib.ExitStack() as taken:
        ports: list[int] = []
        while len(ports) < count:
            port = random.randrange(20_000, 32_000)
            with contextlib.suppress(OSError):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
        return ports


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    http, grpc = free_ports(len(PORTS)), free_ports(len(PORTS))
    server = S3Server(f"http://127.0.0.1:{http[-1]}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(_command(folder, http, grpc), stdout=log, stderr=subprocess.STDOUT)
    try:
        _await_s3(server, process, folder / "log")
        yield server
    finally:
        process.kill()  # asked politely, it takes 15 s
        process.wait()
        for name, port in zip(PORTS, grpc, strict=True):
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)


def _command(folder: Path, http: list[int], grpc: list[int]) -> list[str]:
    ports = [f"-{name}.port={port}" for name, port in zip(PORTS, http, strict=True)]
    grpc_ports = [f"-{name}.port.grpc={port}" for name, port in zip(PORTS, grpc, strict=True)]
    return [
        str(Path(sys.executable).with_name("weed")),
        "server",
        "-filer",
        "-s3",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *ports,
        *grpc_ports,
        f"-filer.localSocket={folder / 'filer.sock'}",
        f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=1000",
    ]


def _await_s3(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ready once a bucket takes an object: the gateway answers before the volumes are there."""
    deadline = time.monotonic() + START_S
    with contextlib.closing(server.client()) as client:
        while not _takes_an_object(client):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def _takes_an_object(client: S3Client) -> bool:
    try:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    return True
