import os
from dataclasses import fields

import pytest

from handler.settings import Settings, from_environment


def test_an_environment_without_settings_gives_the_defaults() -> None:
    assert from_environment({"PATH": "/bin", "OPENAI_API_KEY": "sk", "XNEARVOTE_HOME": "x"}) == Settings()


def test_each_setting_is_read_as_its_type() -> None:
    texts = {
        "NEARVOTE_HOME": "/state",
        "NEARVOTE_STORE": "s3://bucket/prefix",
        "NEARVOTE_TABLE": "dynamodb://keys",
        "NEARVOTE_MODEL_DIR": "/model",
        "NEARVOTE_PEPPER": "pepper",
        "NEARVOTE_SECRET": "arn:aws:secretsmanager:us-east-1:123456789012:secret:nearvote-1",
        "NEARVOTE_URL": "http://127.0.0.1:1",
        "NEARVOTE_ADMIN_KEY": "nv-key",
        "NEARVOTE_PORT": "9000",
        "NEARVOTE_POLL_SECONDS": "0.5",
        "NEARVOTE_EMBED_WORKERS": "3",
        "NEARVOTE_WAITING_DECISIONS": "7",
        "NEARVOTE_BODY_BYTES": "1000",
        "NEARVOTE_CONNECT_SECONDS": "1",
        "NEARVOTE_UPSTREAM_SECONDS": "2.5",
        "NEARVOTE_FIRST_BYTE_SECONDS": "20",
        "NEARVOTE_DEADLINE_SECONDS": "30",
        "NEARVOTE_ROUNDS": "1",
    }
    assert from_environment(texts) == Settings(
        home="/state",
        store="s3://bucket/prefix",
        table="dynamodb://keys",
        model_dir="/model",
        pepper="pepper",
        secret="arn:aws:secretsmanager:us-east-1:123456789012:secret:nearvote-1",
        url="http://127.0.0.1:1",
        admin_key="nv-key",
        port=9000,
        poll_seconds=0.5,
        embed_workers=3,
        waiting_decisions=7,
        body_bytes=1000,
        connect_seconds=1.0,
        upstream_seconds=2.5,
        first_byte_seconds=20.0,
        deadline_seconds=30.0,
        rounds=1,
    )
    assert len(texts) == len(fields(Settings))


@pytest.mark.parametrize("variable", ["NEARVOTE_PROT", "NEARVOTE_", "NEARVOTE_STORE_URL", "NEARVOTE___CLASS__"])
def test_an_unknown_variable_is_refused_with_those_that_exist(variable: str) -> None:
    with pytest.raises(ValueError, match=f"{variable} is no setting of nearvote; there are: NEARVOTE_HOME, "):
        from_environment({variable: "1"})


@pytest.mark.parametrize(
    ("variable", "text", "kind"),
    [
        ("NEARVOTE_PORT", "http", "int"),
        ("NEARVOTE_PORT", "80.5", "int"),
        ("NEARVOTE_PORT", "", "int"),
        ("NEARVOTE_POLL_SECONDS", "often", "float"),
    ],
)
def test_a_value_that_does_not_read_as_its_type_is_named(variable: str, text: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}='{text}' is not of type {kind}"):
        from_environment({variable: text})


def test_index_and_keys_lie_in_the_home_unless_they_are_put_elsewhere() -> None:
    home = Settings(home="/state")
    assert (home.store_url, home.table_url) == ("/state", "/state/state.db")
    elsewhere = Settings(home="/state", store="s3://b", table="dynamodb://keys")
    assert (elsewhere.store_url, elsewhere.table_url) == ("s3://b", "dynamodb://keys")


def test_secrets_are_not_shown() -> None:
    shown = repr(Settings(pepper="SECRET-1", admin_key="SECRET-2"))
    assert "SECRET" not in shown


def test_the_process_s_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NEARVOTE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEARVOTE_PORT", "9001")
    assert from_environment() == Settings(port=9001)
