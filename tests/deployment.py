"""A stack without its functions: bucket, table and secret on loopback servers, and what a first deploy puts there."""

import json
import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import boto3

from handler import fleet as fleets
from handler.dynamo_table import DynamoTable
from handler.fleet import FleetFile
from handler.keys import KeyStore, NewKey, Routing
from handler.services import open_repository
from index import edits
from index.edits import Upload
from index.embedder import Embedder
from index.s3_store import S3Store
from index.versions import Repository
from tests.dynamodb_server import create_dynamo_table, dynamodb_client
from tests.servers import BUCKET, S3Server

PEPPER = "a pepper for tests"
FLEET = """
models:
  - {name: sim-small, price: {input: 0.10, output: 0.50}, deployments: [{base_url: "URL"}]}
  - {name: sim-large, price: {input: 2.00, output: 10.00}, deployments: [{base_url: "URL"}]}
"""
EXAMPLES = b"""\
{"id": "login-1", "prompt": "I forgot my login credentials, help", "only": "sim-small"}
{"id": "login-2", "prompt": "I cannot log in any more, what now?", "only": "sim-small"}
{"id": "proof-1", "prompt": "Prove that there are infinitely many primes", "only": "sim-large"}
{"id": "proof-2", "prompt": "Prove that the square root of two is irrational", "only": "sim-large"}
"""
_numbers = count()


@dataclass(frozen=True, slots=True)
class Deployment:
    """`key` asks for the best answer whatever it costs."""

    environment: dict[str, str]
    """Of the data and the control function."""
    inbox_environment: dict[str, str]
    """Of the inbox function: neither a table nor a secret."""
    store: S3Store
    prefix: str
    """Under which the store lies in BUCKET."""
    key: str
    admin_key: str
    version: str
    fingerprint: str
    fleet_version: str


class Deployer:
    def __init__(self, s3: S3Server, dynamodb: str, provider: str, model_dir: Path, embedder: Embedder) -> None:
        """`dynamodb` stands for Secrets Manager too."""
        self._s3 = s3
        self._dynamodb = dynamodb
        self._provider = provider
        self._model_dir = model_dir
        self._embedder = embedder

    def deploy(self) -> Deployment:
        name = f"lambda-{next(_numbers)}"
        store = S3Store(self._s3.client(), BUCKET, name)
        fleet = fleets.parse(FLEET.replace("URL", self._provider).encode())
        store.put(fleets.KEY, FLEET.replace("URL", self._provider).encode())
        version = self._first_version(open_repository(store), fleet)
        client = dynamodb_client(self._dynamodb)
        create_dynamo_table(client, name)
        keys = KeyStore(DynamoTable(client, name), PEPPER.encode())
        _, key = keys.create(NewKey(name="help desk", routing=Routing.ON, dial=0))
        _, admin_key = keys.create(NewKey(name="operator", admin=True))
        inbox = self._inbox_environment(name)
        environment = inbox | self._tables_and_secrets(name)
        fingerprint = self._embedder.fingerprint
        return Deployment(environment, inbox, store, name, key, admin_key, version, fingerprint, fleet.version)

    def _first_version(self, repository: Repository, fleet: FleetFile) -> str:
        return edits.add(
            repository,
            Upload(EXAMPLES),
            fleet.fleet.candidates,
            lambda prompts: self._embedder.embed_many(prompts, 1),
            self._embedder.fingerprint,
            "first examples",
        ).snapshot.version

    def _inbox_environment(self, name: str) -> dict[str, str]:
        """All of it, as Lambda gives a function only what it is configured with."""
        return {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_S3": self._s3.endpoint,
            "NEARVOTE_STORE": f"s3://{BUCKET}/{name}",
            "NEARVOTE_MODEL_DIR": str(self._model_dir),
        }

    def _tables_and_secrets(self, name: str) -> dict[str, str]:
        client = boto3.client(
            "secretsmanager",
            endpoint_url=self._dynamodb,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        secret = client.create_secret(Name=name, SecretString=json.dumps({"pepper": PEPPER}))
        client.close()
        return {
            "AWS_ENDPOINT_URL_DYNAMODB": self._dynamodb,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self._dynamodb,
            "NEARVOTE_TABLE": f"dynamodb://{name}",
            "NEARVOTE_SECRET": secret["ARN"],
        }
