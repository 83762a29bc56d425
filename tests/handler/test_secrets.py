"""The secret, out of a Secrets Manager over HTTP."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest

from handler.keys import KeyStore, NewKey
from handler.secrets import RETRY_S, TTL_S, Secret, SecretUnavailable, fetcher, open_secret
from handler.services import open_services
from handler.settings import Settings
from tests.dynamodb_server import Clock
from tests.servers import free_ports

VALUES = {"pepper": "grain-of-pepper", "OPENAI_API_KEY": "sk-one"}
_numbers = count()


@pytest.fixture
def manager(aws_environment: str) -> Any:
    """Secrets Manager's client; this process's own clients reach it too."""
    return boto3.client("secretsmanager", endpoint_url=aws_environment)


@pytest.fixture
def arn(manager: Any) -> str:
    """Of a secret with VALUES."""
    name = f"secret-{next(_numbers)}"
    created: str = manager.create_secret(Name=name, SecretString=json.dumps(VALUES))["ARN"]
    return created


class Counted:
    """Gives these texts one after the other, then fails; `answers` holds it back."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> str:
        self.asked += 1
        self.answers.wait(5)
        if not self._texts:
            raise SecretUnavailable("it is out")
        return self._texts.pop(0)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def test_a_name_is_looked_for_in_the_secret_and_then_in_the_environment(
    arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-two")
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    secret = open_secret(arn)
    assert secret["OPENAI_API_KEY"] == "sk-one"
    assert secret["ANTHROPIC_API_KEY"] == "sk-two"
    assert secret.get("MISTRAL_API_KEY") is None
    monkeypatch.setenv("MISTRAL_API_KEY", "set later")
    assert secret.get("MISTRAL_API_KEY") == "set later"
    assert secret.pepper == b"grain-of-pepper"


def test_a_secret_can_be_named_too(manager: Any) -> None:
    manager.create_secret(Name="by-name", SecretString='{"A": "1"}')
    assert open_secret("by-name")["A"] == "1"


def test_all_names_are_listed_once() -> None:
    secret = Secret(lambda: '{"A": "1", "B": "2"}', {"B": "3", "C": "4"})
    assert (dict(secret), len(secret)) == ({"A": "1", "B": "2", "C": "4"}, 3)


def test_a_change_is_taken_in_the_background_once_the_values_are_too_old(manager: Any, arn: str) -> None:
    clock = Clock()
    secret = Secret(fetcher(arn), {}, clock=clock)
    manager.put_secret_value(SecretId=arn, SecretString=json.dumps(VALUES | {"OPENAI_API_KEY": "sk-new"}))
    clock.seconds += TTL_S - 1
    assert secret["OPENAI_API_KEY"] == "sk-one"
    clock.seconds += 1
    assert secret["OPENAI_API_KEY"] == "sk-one"
    wait_until(lambda: secret["OPENAI_API_KEY"] == "sk-new")


def test_the_values_stay_when_secrets_manager_fails(manager: Any, arn: str, caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(fetcher(arn), {})
    manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    secret.renew()
    assert (secret["OPENAI_API_KEY"], secret.pepper) == ("sk-one", b"grain-of-pepper")
    assert caplog.messages == [f"kept the secret as it was: {arn}: ResourceNotFoundException"]


def test_a_look_does_not_wait_for_a_renewal_and_starts_one_at_a_time() -> None:
    clock, fetch = Clock(), Counted('{"A": "old"}', '{"A": "new"}')
    secret = Secret(fetch, {}, clock=clock)
    fetch.answers.clear()
    clock.seconds += TTL_S
    assert [secret["A"] for _ in range(100)] == ["old"] * 100
    wait_until(lambda: fetch.asked == 2)
    fetch.answers.set()
    wait_until(lambda: secret["A"] == "new")
    assert fetch.asked == 2


def test_a_renewal_that_failed_is_tried_again_after_a_while_and_not_before(caplog: pytest.LogCaptureFixture) -> None:
    clock, fetch = Clock(), Counted('{"A": "old"}')
    secret = Secret(fetch, {}, clock=clock)
    clock.seconds += TTL_S
    assert secret["A"] == "old"
    wait_until(lambda: len(caplog.messages) == 1)
    clock.seconds += RETRY_S - 1
    assert (secret["A"], fetch.asked) == ("old", 2)
    clock.seconds += 1
    assert secret["A"] == "old"
    wait_until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == ["kept the secret as it was: it is out"] * 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the secret is not JSON"),
        ("sk-needle", "the secret is not JSON"),
        ('{"pepper": "sk-needle"', "the secret is not JSON"),
        ('["sk-needle"]', "the secret is not a JSON object"),
        ('{"A": "sk-needle", "B": {"C": "sk-needle"}}', "the secret's values must be strings; 'B' is none"),
    ],
)
def test_a_secret_that_is_not_what_it_should_be_is_told_without_a_word_of_it(
    text: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SecretUnavailable) as refused:
        Secret(lambda: text)
    assert str(refused.value) == complaint
    kept = Secret(Counted('{"A": "old"}', text), {})
    with caplog.at_level(logging.DEBUG):
        kept.renew()
    assert kept["A"] == "old"
    assert caplog.messages == [f"kept the secret as it was: {complaint}"]


def test_nothing_of_it_is_shown(manager: Any, arn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager.put_secret_value(SecretId=arn, SecretString=json.dumps(dict.fromkeys(VALUES, "needle")))
    with caplog.at_level(logging.INFO):
        services = open_services(Settings(home=str(tmp_path), secret=arn))
    assert services.credentials["OPENAI_API_KEY"] == "needle"
    shown = [repr(services), str(services), repr(services.credentials), str(services.credentials), caplog.text]
    assert "needle" not in "".join(shown)


@pytest.mark.usefixtures("aws_environment")
def test_a_missing_secret_is_told_at_the_start() -> None:
    with pytest.raises(SecretUnavailable, match="no-such-secret: ResourceNotFoundException"):
        open_secret("no-such-secret")


@pytest.mark.usefixtures("aws_environment")
def test_an_unreachable_secrets_manager_is_told_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    started = time.monotonic()
    with pytest.raises(SecretUnavailable, match="my-secret: Could not connect"):
        open_secret("my-secret")
    assert time.monotonic() - started < 15


def test_keys_are_hashed_with_the_secret_s_pepper(manager: Any, arn: str, tmp_path: Path) -> None:
    def opened(pepper: str) -> KeyStore:
        manager.put_secret_value(SecretId=arn, SecretString=json.dumps({"pepper": pepper}))
        return open_services(Settings(home=str(tmp_path), secret=arn, pepper="of the settings")).keys

    _, key = opened("one").create(NewKey(name="a"))
    assert opened("one").authenticate(key) is not None
    assert opened("another").authenticate(key) is None
    assert open_services(Settings(home=str(tmp_path), pepper="one")).keys.authenticate(key) is not None


def test_a_secret_without_a_pepper_is_told(manager: Any, arn: str, tmp_path: Path) -> None:
    manager.put_secret_value(SecretId=arn, SecretString='{"pepper": "", "OPENAI_API_KEY": "sk"}')
    with pytest.raises(SecretUnavailable, match="the secret has no `pepper`"):
        open_services(Settings(home=str(tmp_path), secret=arn, pepper="of the settings"))


def test_without_a_secret_boto3_is_not_imported() -> None:
    code = "import sys, handler.data.build, handler.control.app; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
