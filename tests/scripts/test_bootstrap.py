"""`nearvote bootstrap --stack NAME` and `--stack` on the other commands, over a stack that CloudFormation made."""

import json
import os
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import boto3
import orjson
import pytest
from typer.testing import CliRunner, Result

from handler import fleet as fleets
from handler.keys import NewKey
from handler.secrets import open_secret
from handler.services import Services, open_services
from handler.settings import Settings
from index.edits import remove
from scripts.local_state import PROVIDERS, fleet_for
from scripts.main import app
from scripts.stack import OUTPUTS, Stack, StackError, find_stack
from tests.admin_server import FLEET, AdminServer
from tests.lambda_function import Function, function
from tests.nearvote_server import clean_environment
from tests.providers import ROOT
from tests.scripted_upstream import answer, scripted_upstream

Json: TypeAlias = dict[str, Any]
Bootstrap = Callable[..., Result]

EVENTS = ROOT / "tests" / "events" / "rest-v1"
KEY = re.compile(r"nv-([0-9a-f]{12})-[0-9A-Za-z]{43}\n")
ANSWER = b'{"model": "m", "usage": {"prompt_tokens": 10, "completion_tokens": 20}}'
TEMPLATE: Json = {
    "Parameters": {"Url": {"Type": "String"}},
    "Resources": {
        "Bucket": {"Type": "AWS::S3::Bucket"},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": "kind", "AttributeType": "S"},
                    {"AttributeName": "id", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "kind", "KeyType": "HASH"},
                    {"AttributeName": "id", "KeyType": "RANGE"},
                ],
            },
        },
        "Secret": {
            "Type": "AWS::SecretsManager::Secret",
            "Properties": {"GenerateSecretString": {"SecretStringTemplate": "{}", "GenerateStringKey": "pepper"}},
        },
    },
    "Outputs": {
        "Url": {"Value": {"Ref": "Url"}},
        "Bucket": {"Value": {"Ref": "Bucket"}},
        "Table": {"Value": {"Ref": "Table"}},
        "SecretArn": {"Value": {"Ref": "Secret"}},
    },
}
"""The state of the real one, and its outputs."""
_numbers = count()


@dataclass(frozen=True, slots=True)
class Deployed:
    name: str
    stack: Stack

    @property
    def settings(self) -> Settings:
        place = self.stack
        return Settings(store=f"s3://{place.bucket}", table=f"dynamodb://{place.table}", secret=place.secret)

    @property
    def services(self) -> Services:
        """Opened anew."""
        return open_services(self.settings)

    @property
    def secret(self) -> Json:
        client = boto3.client("secretsmanager")
        values: Json = json.loads(client.get_secret_value(SecretId=self.stack.secret)["SecretString"])
        return values

    def fleet(self) -> bytes:
        stored = self.services.store.get(fleets.KEY)
        assert stored is not None
        return stored.data


@pytest.fixture(autouse=True)
def environment(aws_environment: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARVOTE_MODEL_DIR", str(model_dir))
    return aws_environment


def deploy(template: Json, url: str = "https://api.example/live") -> str:
    """The new stack's name."""
    name = f"stack-{next(_numbers)}"
    client = boto3.client("cloudformation")
    given = [{"ParameterKey": "Url", "ParameterValue": url}] if template is TEMPLATE else []
    client.create_stack(StackName=name, TemplateBody=json.dumps(template), Parameters=given)
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    return name


@pytest.fixture
def deployed() -> Deployed:
    name = deploy(TEMPLATE)
    return Deployed(name, find_stack(name))


@pytest.fixture
def bootstrap(deployed: Deployed) -> Bootstrap:
    return lambda *options: CliRunner().invoke(app, ["bootstrap", "--stack", deployed.name, *map(str, options)])


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    """FLEET, whose deployments refer to nothing."""
    path = tmp_path / "my-fleet.yaml"
    path.write_text(FLEET)
    return path


def done(result: Result) -> tuple[str, list[str]]:
    """What a command that succeeded printed, and what it told beside it."""
    assert result.exit_code == 0, result.output
    return result.stdout, [line for line in result.stderr.splitlines() if line.strip() and "%|" not in line]


def refusal(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


@contextmanager
def functions(deployed: Deployed, url: str, model_dir: Path) -> Any:
    """The data plane and the control plane of the stack, in the environment that the template gives them."""
    given = {
        "PATH": os.environ["PATH"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": url,
        "NEARVOTE_STORE": deployed.settings.store,
        "NEARVOTE_TABLE": deployed.settings.table,
        "NEARVOTE_SECRET": deployed.settings.secret,
        "NEARVOTE_MODEL_DIR": str(model_dir),
    }
    with function("handler.data.entry", given) as data, function("handler.control.entry", given) as control:
        yield data, control


def asked(of: Function, name: str, key: str) -> tuple[int, Json, Json]:
    """Status, headers and body of the answer to a stored event."""
    event = json.loads((EVENTS / f"{name}.json").read_text())
    event["headers"]["Authorization"] = f"Bearer {key}"
    event["multiValueHeaders"]["Authorization"] = [f"Bearer {key}"]
    told = of(event)
    return told["statusCode"], told["headers"], json.loads(told["body"])


def test_after_it_the_stack_s_functions_route_auto_with_the_secret_s_keys(
    bootstrap: Bootstrap,
    deployed: Deployed,
    environment: str,
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted_upstream() as upstream:
        path = tmp_path / "fleet.yaml"
        deployment = f'{{base_url: "{upstream.url}", api_key: "${{MY_PROVIDER_KEY}}"}}'
        path.write_text(
            "models:\n"
            f"  - {{name: small, like: small, price: {{input: 1, output: 1}}, deployments: [{deployment}]}}\n"
            f"  - {{name: large, like: large, price: {{input: 9, output: 9}}, deployments: [{deployment}]}}\n"
        )
        monkeypatch.setenv("MY_PROVIDER_KEY", "sk-needle")
        printed, told = done(bootstrap("--fleet", path, "--with-provider-keys"))
        assert KEY.fullmatch(printed)
        assert "needle" not in "".join(told)
        assert told[:3] == [
            "uploaded fleet.yaml: small, large",
            "put into the secret: MY_PROVIDER_KEY; a running function takes it within 5 minutes",
            "building the starter index",
        ]
        assert re.fullmatch(r"uploaded the index: version 1 \([0-9a-f]{16}\), \d+ examples", told[3])
        assert told[4:] == [
            f"{deployed.name} answers at https://api.example/live/v1",
            "the first admin key, shown this once; as NEARVOTE_ADMIN_KEY it goes with `nearvote … --stack "
            f"{deployed.name}`:",
        ]
        assert deployed.fleet() == path.read_bytes()

        upstream.steps = [answer(ANSWER)]
        with functions(deployed, environment, model_dir) as (data, control):
            status, _, record = asked(control, "keys-create", printed.strip())
            assert (status, record["routing"]) == (201, "on")
            status, headers, body = asked(data, "chat", record["key"])
        assert (status, headers["x-nearvote-cause"], body) == (200, "vote", json.loads(ANSWER))
        assert upstream.received[0].headers["authorization"] == "Bearer sk-needle"


def test_the_stack_can_stand_before_the_command(deployed: Deployed, fleet_file: Path) -> None:
    command = ["bootstrap", "--fleet", str(fleet_file), "--no-starter"]
    printed, _ = done(CliRunner().invoke(app, ["--stack", deployed.name, *command]))
    assert KEY.fullmatch(printed)
    _, told = done(CliRunner().invoke(app, ["--stack", "no-such-stack", *command, "--stack", deployed.name]))
    assert told[-1] == f"{deployed.name} answers at https://api.example/live/v1"


def test_without_a_stack_there_is_nothing_to_bootstrap() -> None:
    result = CliRunner().invoke(app, ["bootstrap"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for --stack: which stack?" in result.stderr


def test_a_second_run_keeps_everything(bootstrap: Bootstrap, deployed: Deployed, fleet_file: Path) -> None:
    printed, _ = done(bootstrap("--fleet", fleet_file))
    before = (deployed.fleet(), deployed.secret, deployed.services.repository.current().version)
    (record,) = deployed.services.keys.list()
    fleet_file.write_text(FLEET.replace("maxi", "mega"))
    again, told = done(bootstrap("--fleet", fleet_file, "--with-provider-keys"))
    version = deployed.services.repository.current()
    assert again == ""
    assert told == [
        "kept fleet.yaml: nano, mini, maxi; --replace-fleet replaces it",
        f"kept the index: version 1 ({version.version}), {len(version)} examples",
        f"kept the admin key {record.id} (first admin)",
        f"{deployed.name} answers at https://api.example/live/v1",
    ]
    assert (deployed.fleet(), deployed.secret, version.version) == before
    assert deployed.services.keys.list() == [record]
    assert deployed.services.keys.authenticate(printed.strip()) == record

    assert done(bootstrap("--fleet", fleet_file, "--replace-fleet"))[1][0] == "uploaded fleet.yaml: nano, mini, mega"
    assert deployed.fleet() == fleet_file.read_bytes()

    remove(deployed.services.repository, version.examples.ids)
    assert "), 0 examples" in done(bootstrap())[1][1]  # emptied on purpose


def test_without_a_starter_the_index_stays_without_a_version(
    bootstrap: Bootstrap, deployed: Deployed, fleet_file: Path
) -> None:
    done(bootstrap("--fleet", fleet_file, "--no-starter"))
    assert list(deployed.services.repository.history(1)) == []


def test_the_admin_key_is_hashed_with_the_stack_s_pepper_and_shown_once(
    bootstrap: Bootstrap, deployed: Deployed, fleet_file: Path
) -> None:
    pepper = deployed.secret["pepper"]
    printed, told = done(bootstrap("--fleet", fleet_file, "--no-starter"))
    key = printed.strip()
    record = deployed.services.keys.authenticate(key)
    assert record is not None
    assert (record.name, record.admin, record.routing.value) == ("first admin", True, "off")
    assert deployed.secret == {"pepper": pepper}
    assert key not in "".join(told)
    assert pepper not in "".join(told)


@pytest.mark.parametrize("state", ["revoked", "expired", "not an admin's"])
def test_a_key_that_is_no_working_admin_key_does_not_stand_in_for_one(
    bootstrap: Bootstrap, deployed: Deployed, fleet_file: Path, state: str
) -> None:
    keys = deployed.services.keys
    new = NewKey(name="a", admin=state != "not an admin's", expires_at=1 if state == "expired" else None)
    record, _ = keys.create(new)
    if state == "revoked":
        keys.revoke(record.id)
    assert KEY.fullmatch(done(bootstrap("--fleet", fleet_file, "--no-starter"))[0])


def test_the_result_is_json_on_request(bootstrap: Bootstrap, fleet_file: Path) -> None:
    first = orjson.loads(done(bootstrap("--fleet", fleet_file, "--no-starter", "--json"))[0])
    assert KEY.fullmatch(first.pop("admin_key") + "\n")
    assert first == {"url": "https://api.example/live"}
    again = orjson.loads(done(bootstrap("--no-starter", "--json"))[0])
    assert again == {"url": "https://api.example/live", "admin_key": None}


def test_without_a_fleet_file_the_providers_with_a_key_make_the_fleet(
    bootstrap: Bootstrap, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(bootstrap("--no-starter"))
    assert told.startswith("error: no fleet: give --fleet FILE, or have one of OPENAI_API_KEY, ")
    assert deployed.services.keys.list() == []

    secret = deployed.secret | {"MISTRAL_API_KEY": "sk-of-the-secret"}
    boto3.client("secretsmanager").put_secret_value(SecretId=deployed.stack.secret, SecretString=json.dumps(secret))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    _, told_lines = done(bootstrap("--no-starter"))
    assert deployed.fleet() == fleet_for({"OPENAI_API_KEY": "x", "MISTRAL_API_KEY": "x"})
    lacks = "fleet.yaml refers to OPENAI_API_KEY, which the secret lacks: add it, or see --with-provider-keys"
    assert told_lines[1] == lacks
    assert deployed.secret == secret


def test_keys_go_into_the_secret_only_when_asked_and_replace_none(
    bootstrap: Bootstrap, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pepper = deployed.secret["pepper"]
    for variable in PROVIDERS:
        monkeypatch.setenv(variable, f"first-{variable}")
    done(bootstrap("--no-starter"))
    assert deployed.secret == {"pepper": pepper}
    done(bootstrap("--no-starter", "--with-provider-keys"))
    first = {variable: f"first-{variable}" for variable in PROVIDERS}
    assert deployed.secret == {"pepper": pepper} | first
    for variable in PROVIDERS:
        monkeypatch.setenv(variable, f"second-{variable}")
    done(bootstrap("--no-starter", "--with-provider-keys"))
    assert deployed.secret == {"pepper": pepper} | first
    assert open_secret(deployed.stack.secret)["OPENAI_API_KEY"] == "first-OPENAI_API_KEY"


def test_a_broken_fleet_file_is_told_before_anything_is_written(
    bootstrap: Bootstrap, deployed: Deployed, tmp_path: Path
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("models: []")
    told = refusal(bootstrap("--fleet", path))
    assert told.startswith("error: fleet.yaml: line 1: models: Tuple should have at least 1 item")
    assert list(deployed.services.store.keys("")) == []
    assert deployed.services.keys.list() == []


def test_the_outputs_are_those_of_the_template() -> None:
    outputs = (ROOT / "template.yaml").read_text().split("\nOutputs:\n")[1]
    assert set(OUTPUTS.values()) <= set(re.findall(r"^  (\w+):$", outputs, re.MULTILINE))
    assert set(OUTPUTS.values()) == set(TEMPLATE["Outputs"])


def test_a_stack_that_does_not_exist_is_told() -> None:
    told = refusal(CliRunner().invoke(app, ["bootstrap", "--stack", "no-such-stack"]))
    assert told == "error: Stack with id no-such-stack does not exist (region us-east-1)\n"
    for command in ("bootstrap",), ("keys", "list"), ("index", "rebuild"):
        result = CliRunner().invoke(app, [*command, "--stack", "no-such-stack", "--json"])
        assert (result.exit_code, result.stderr) == (1, "")
        assert orjson.loads(result.stdout) == {"error": {"message": told.removeprefix("error: ").strip()}}


def test_a_stack_of_something_else_is_told() -> None:
    name = deploy({"Resources": {"Bucket": {"Type": "AWS::S3::Bucket"}}, "Outputs": {"Url": {"Value": "x"}}})
    with pytest.raises(StackError) as refused:
        find_stack(name)
    assert str(refused.value) == (
        f"stack '{name}' (CREATE_COMPLETE) has no output Bucket, Table, SecretArn: "
        "is it nearvote's, and is it deployed?"
    )


def test_a_missing_region_is_told_and_a_given_one_is_used(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    told = refusal(CliRunner().invoke(app, ["keys", "list", "--stack", deployed.name]))
    assert told == f"error: stack '{deployed.name}' cannot be looked up: You must specify a region.\n"
    assert find_stack(deployed.name, "us-east-1") == deployed.stack
    with pytest.raises(StackError, match=r"does not exist \(region eu-west-1\)"):
        find_stack(deployed.name, "eu-west-1")


def test_a_stack_s_url_goes_before_that_of_the_environment_and_a_url_behind_the_command_before_both(
    admin_server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = deploy(TEMPLATE, admin_server.url)
    monkeypatch.setenv("NEARVOTE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NEARVOTE_ADMIN_KEY", admin_server.admin_key)

    def run(*arguments: str) -> Any:
        before = orjson.loads(done(CliRunner().invoke(app, ["--stack", stack, *arguments, "--json"]))[0])
        behind = orjson.loads(done(CliRunner().invoke(app, [*arguments, "--stack", stack, "--json"]))[0])
        assert before == behind
        return behind

    assert [record["name"] for record in run("keys", "list")] == ["operator"]
    assert run("examples", "list")["total"] == 0
    assert run("index", "status")["number"] == 0
    elsewhere = ["--stack", stack, "keys", "list", "--url", "http://127.0.0.1:1"]
    assert refusal(CliRunner().invoke(app, elsewhere)).startswith("error: http://127.0.0.1:1 does not answer: ")
