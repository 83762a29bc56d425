"""What template.yaml deploys, as far as that can be known without AWS."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from handler.data.record import log as requests_log
from handler.data.record import record, record_forecast
from handler.dynamo_table import DynamoTable
from handler.flow import Cause, Decision, Outcome, Ranked, Usage
from handler.keys import KeyRecord, KeyStore, NewKey
from handler.settings import from_environment
from tests.infra.artifact import ARCH
from tests.infra.transformed import Deployed, Job, Json, deploy, transform
from tests.providers import ROOT

STREAM_X86: dict[str, str] = {}
STREAM_ARM = {"Architecture": "arm64"}
BUFFERED = {"ResponseMode": "buffered"}

BUCKET = "nearvote-0f0e-0d0c"
FUNCTIONS = ("DataFunction", "ControlFunction", "InboxFunction")
PATHS = {"/v1/{proxy+}": "x-amazon-apigateway-any-method", "/healthz": "get"}
"""The data plane's, and the method of each."""
ADAPTER = {
    "AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap",
    "AWS_LWA_INVOKE_MODE": "response_stream",
    "AWS_LWA_PORT": "8080",
    "AWS_LWA_READINESS_CHECK_PATH": "/healthz",
}
BUFFERED_URI = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{}.Arn/invocations"
STREAMED_URI = "arn:aws:apigateway:eu-west-1:lambda:path/2021-11-15/functions/{}.Arn/response-streaming-invocations"

SAMS_OWN = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Mode: {Type: String, Default: RESPONSE_STREAM}
Conditions:
  Streams: !Equals [!Ref Mode, RESPONSE_STREAM]
Resources:
  DataFunction:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: run.sh
      Events:
        V1:
          Type: Api
          Properties: {Path: '/v1/{proxy+}', Method: ANY, TimeoutInMillis: 900000, ResponseTransferMode: SPELLING}
"""
"""The same route as an event of SAM's, which is how SAM would have one stream."""
VERSIONED = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  DataMemory: {Type: Number, Default: 2048}
Resources:
  DataFunction:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: run.sh
      MemorySize: !Ref DataMemory
      SnapStart: {ApplyOn: PublishedVersions}
      AutoPublishAlias: live
      AutoPublishAliasAllProperties: true
"""
"""As SnapStart would have it."""
MISSPELT = (
    "STREAM",
    "response_stream",
    "RESPONSE-STREAM",
    "ResponseStream",
    "!Ref Mode",
    "!If [Streams, RESPONSE_STREAM, BUFFERED]",
)

EXACT = re.compile(r"\w+(\.Arn)?|Bucket\.Arn/(fleet\.yaml|(index|inbox|rejected)/\*)")
"""A resource by its reference, or the keys of the bucket that a function works on."""


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where SAM's CLI, cfn-lint and checkov are. Made once, which takes a minute or two."""
    made = ["make", "-s", "-f", "infra/checks.mk", f"PYTHON={sys.executable}", ".venv-infra/ready"]
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ROOT / ".venv-infra" / "bin"


@pytest.fixture(scope="session")
def source() -> str:
    return (ROOT / "template.yaml").read_text()


@pytest.fixture(scope="session")
def template(tools: Path, source: str) -> Json:
    """After SAM's transform; CloudFormation works out conditions later, so one serves all parameters."""
    (transformed,) = transform(tools / "python", [Job(source)])
    return transformed


@pytest.fixture(scope="session")
def stream(template: Json) -> Deployed:
    return deploy(template, STREAM_X86)


@pytest.fixture(scope="session")
def buffered(template: Json) -> Deployed:
    return deploy(template, BUFFERED)


@pytest.fixture(scope="session")
def spelt(tools: Path) -> dict[str, Json]:
    """The integration that SAM makes of an event, by how its ResponseTransferMode is spelt."""
    spellings = ("RESPONSE_STREAM", *MISSPELT)
    jobs = [Job(SAMS_OWN.replace("SPELLING", spelling)) for spelling in spellings]
    apis = [deploy(made, {})["ServerlessRestApi"] for made in transform(tools / "python", jobs)]
    return dict(zip(spellings, [integration(api, "/v1/{proxy+}") for api in apis], strict=True))


def integration(api: Json, path: str) -> Json:
    (method,) = api["Body"]["paths"][path].values()
    found: Json = method["x-amazon-apigateway-integration"]
    return found


def run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-1", "ARCH": ARCH}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_sam_validates_and_lints_the_template(tools: Path) -> None:
    done = run([tools / "sam", "validate", "--lint"])
    assert (done.returncode, done.stdout.strip()) == (0, f"{ROOT}/template.yaml is a valid SAM Template")


def test_sam_builds_all_three_functions_from_the_artifact(tools: Path, artifact: Path, tmp_path: Path) -> None:
    """Without an AWS account, with what `sam build` alone is told by samconfig.toml."""
    done = run([tools / "sam", "build", "--build-dir", tmp_path, "--parameter-overrides", f"Architecture={ARCH}"])
    assert done.returncode == 0, done.stderr
    for name in ("DataFunction", "ControlFunction", "InboxFunction"):
        assert _files(tmp_path / name) == _files(artifact)


def test_make_package_checks_the_template_before_it_builds() -> None:
    steps = run(["make", "-n", "package"]).stdout
    assert 0 <= steps.index("sam validate --lint") < steps.index("infra.package")


def test_cfn_lint_finds_nothing_in_the_template_nor_in_what_sam_makes_of_it(
    tools: Path, template: Json, tmp_path: Path
) -> None:
    made = tmp_path / "transformed.json"
    made.write_text(json.dumps(template))
    done = run([tools / "cfn-lint", ROOT / "template.yaml", made])
    assert (done.returncode, done.stdout) == (0, "")


def test_checkov_finds_what_is_skipped_with_a_reason_and_nothing_else(tools: Path) -> None:
    listed = (ROOT / "infra" / "checkov.yaml").read_text().partition("skip-check:")[2].splitlines()[1:]
    reasons = [re.fullmatch(r"  - (CKV_AWS_\d+) # (\w.{20,})", line) for line in listed]
    done = run(
        [tools / "checkov", "-f", "template.yaml", "--framework", "cloudformation", "--skip-download", "-o", "json"]
    )
    results = json.loads(done.stdout)["results"]
    assert all(reasons)
    assert sorted({check["check_id"] for check in results["failed_checks"]}) == sorted(
        reason[1] for reason in reasons if reason
    )
    assert len(results["passed_checks"]) > 50
    assert results["parsing_errors"] == []


def test_every_parameter_has_a_default_and_says_what_it_is(template: Json) -> None:
    incomplete = {
        name for name, parameter in template["Parameters"].items() if not {"Default", "Description"} <= parameter.keys()
    }
    assert incomplete == set()


def test_the_data_plane_streams_as_sams_own_event_does(spelt: dict[str, Json], stream: Deployed) -> None:
    expected = {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": STREAMED_URI.format("DataFunction"),
        "responseTransferMode": "STREAM",
        "timeoutInMillis": 15 * 60 * 1000,
    }
    assert spelt["RESPONSE_STREAM"] == expected
    assert integration(stream["Api"], "/v1/{proxy+}") == expected
    assert integration(stream["Api"], "/healthz") == {**expected, "timeoutInMillis": 29_000}


@pytest.mark.parametrize("spelling", MISSPELT)
def test_a_misspelt_transfer_mode_buffers_without_a_word(
    spelling: str, spelt: dict[str, Json], stream: Deployed
) -> None:
    misspelt = spelt[spelling]
    assert misspelt == {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": BUFFERED_URI.format("DataFunction"),
        "timeoutInMillis": 900_000,
    }
    assert all(integration(stream["Api"], path)["uri"] != misspelt["uri"] for path in PATHS)


def test_the_data_plane_buffers_when_asked_to(buffered: Deployed) -> None:
    expected = {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": BUFFERED_URI.format("DataFunction"),
        "responseTransferMode": "BUFFERED",
        "timeoutInMillis": 29_000,
    }
    assert [integration(buffered["Api"], path) for path in PATHS] == [expected, expected]


@pytest.mark.parametrize("parameters", [STREAM_X86, STREAM_ARM, BUFFERED])
def test_the_control_plane_always_buffers(template: Json, parameters: dict[str, str]) -> None:
    api = deploy(template, parameters)["Api"]
    assert integration(api, "/admin/v1/{proxy+}") == {
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": BUFFERED_URI.format("ControlFunction"),
        "responseTransferMode": "BUFFERED",
        "timeoutInMillis": 29_000,
    }


def test_the_api_is_regional_and_has_these_routes(stream: Deployed) -> None:
    api = stream["Api"]
    routes = {path: list(methods) for path, methods in api["Body"]["paths"].items()}
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert routes == {path: [method] for path, method in PATHS.items()} | {
        "/admin/v1/{proxy+}": ["x-amazon-apigateway-any-method"]
    }


def test_a_changed_parameter_reaches_the_stage(source: str) -> None:
    # SAM names a deployment after the definition's text, in which ResponseMode's value is not: without this, a switch
    # to buffered would leave a stage that still streams.
    assert "AlwaysDeploy: true" in source


def test_sam_publishes_no_version_for_a_parameters_new_value(tools: Path) -> None:
    """Why there is no SnapStart here: infra/README.md. It snapshots published versions only."""
    changed = [{}, {"DataMemory": "1024"}]
    made = transform(tools / "python", [Job(VERSIONED, parameters) for parameters in changed])
    before, after = [list(deploy(*each).of_type("AWS::Lambda::Version")) for each in zip(made, changed, strict=True)]
    assert before == after
    assert len(before) == 1


@pytest.mark.parametrize(
    ("parameters", "architecture", "layer"),
    [
        (STREAM_X86, "x86_64", "arn:aws:lambda:eu-west-1:753240598075:layer:LambdaAdapterLayerX86:30"),
        (STREAM_ARM, "arm64", "arn:aws:lambda:eu-west-1:753240598075:layer:LambdaAdapterLayerArm64:30"),
    ],
)
def test_a_streaming_data_plane_runs_behind_the_web_adapter(
    template: Json, parameters: dict[str, str], architecture: str, layer: str
) -> None:
    function = deploy(template, parameters)["DataFunction"]
    assert without_tags(function) == {
        "Runtime": "python3.13",
        "Architectures": [architecture],
        "Code": {"S3Bucket": "artifacts", "S3Key": "nearvote.zip"},
        "Handler": "run.sh",
        "Layers": [layer],
        "MemorySize": 2048,
        "Timeout": 900,
        "Role": "DataRole.Arn",
        "LoggingConfig": {"LogGroup": "DataLogs"},
        "Environment": {
            "Variables": {
                "NEARVOTE_STORE": f"s3://{BUCKET}",
                "NEARVOTE_TABLE": "dynamodb://Table",
                "NEARVOTE_SECRET": "Secret",
                "NEARVOTE_MODEL_DIR": "/var/task/model",
                "NEARVOTE_UPSTREAM_SECONDS": "290",
                "NEARVOTE_DEADLINE_SECONDS": "285",
                "NEARVOTE_FIRST_BYTE_SECONDS": "120",
                **ADAPTER,
            }
        },
    }


@pytest.mark.parametrize("setting", ["AWS_LAMBDA_LOG_LEVEL", "RUST_LOG", "ApplicationLogLevel"])
def test_nothing_makes_the_adapter_talkative(source: str, setting: str) -> None:
    """At DEBUG it logs the headers of requests, and with them API keys."""
    assert setting not in source


def test_a_buffered_data_plane_runs_without_the_adapter(buffered: Deployed) -> None:
    function = buffered["DataFunction"]
    assert "Layers" not in function
    assert (function["Handler"], function["Timeout"]) == ("handler.data.entry.entry", 29)
    assert function["Environment"]["Variables"] == {
        "NEARVOTE_STORE": f"s3://{BUCKET}",
        "NEARVOTE_TABLE": "dynamodb://Table",
        "NEARVOTE_SECRET": "Secret",
        "NEARVOTE_MODEL_DIR": "/var/task/model",
        "NEARVOTE_UPSTREAM_SECONDS": "25",
        "NEARVOTE_DEADLINE_SECONDS": "25",
        "NEARVOTE_FIRST_BYTE_SECONDS": "10",
    }


def test_the_control_plane_and_the_inbox_run_the_same_code_their_own_way(stream: Deployed) -> None:
    control, inbox = stream["ControlFunction"], stream["InboxFunction"]
    assert [function["Code"] for function in (control, inbox)] == [stream["DataFunction"]["Code"]] * 2
    assert (control["Handler"], control["Timeout"]) == ("handler.control.entry.entry", 29)
    assert (inbox["Handler"], inbox["Timeout"]) == ("handler.control.inbox_entry.entry", 900)
    assert [function["Architectures"] for function in (control, inbox)] == [["x86_64"]] * 2
    assert inbox["Environment"]["Variables"] == {
        "NEARVOTE_STORE": f"s3://{BUCKET}",
        "NEARVOTE_MODEL_DIR": "/var/task/model",
    }


@pytest.mark.parametrize("parameters", [STREAM_X86, BUFFERED])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_nearvote_knows_every_setting_that_a_function_is_given(
    template: Json, function: str, parameters: dict[str, str]
) -> None:
    settings = from_environment(deploy(template, parameters)[function]["Environment"]["Variables"])
    assert (settings.store, settings.model_dir) == (f"s3://{BUCKET}", "/var/task/model")


@pytest.mark.parametrize(("asked", "reserved"), [("0", {}), ("25", {"ReservedConcurrentExecutions": "25"})])
def test_concurrency_is_reserved_only_when_asked_for(template: Json, asked: str, reserved: Json) -> None:
    function = deploy(template, {"DataConcurrency": asked})["DataFunction"]
    assert {key: value for key, value in function.items() if "Concurrent" in key} == reserved


def test_only_the_api_and_the_bucket_may_call_a_function(stream: Deployed) -> None:
    api = "arn:aws:execute-api:eu-west-1:123456789012:Api/live"
    call = {"Action": "lambda:InvokeFunction"}
    gateway = {**call, "Principal": "apigateway.amazonaws.com"}
    assert stream.of_type("AWS::Lambda::Permission") == {
        "ApiCallsData": {**gateway, "FunctionName": "DataFunction", "SourceArn": f"{api}/*/v1/*"},
        "ApiChecksData": {**gateway, "FunctionName": "DataFunction", "SourceArn": f"{api}/GET/healthz"},
        "ApiCallsControl": {**gateway, "FunctionName": "ControlFunction", "SourceArn": f"{api}/*/admin/v1/*"},
        "BucketCallsInbox": {
            **call,
            "FunctionName": "InboxFunction",
            "Principal": "s3.amazonaws.com",
            "SourceAccount": "123456789012",
            "SourceArn": f"arn:aws:s3:::{BUCKET}",
        },
    }


def allow(sid: str, actions: str | list[str], resources: str | list[str], **conditions: Json) -> Json:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **conditions}


def may_see_missing(*prefixes: str) -> Json:
    return allow(
        "SeeWhatIsMissing", "s3:ListBucket", "Bucket.Arn", Condition={"StringLike": {"s3:prefix": [*prefixes]}}
    )


def of_kinds(operator: str, *kinds: str) -> Json:
    """A condition on the partition key."""
    return {f"ForAllValues:{operator}": {"dynamodb:LeadingKeys": [*kinds]}}


def may_log(group: str) -> Json:
    return allow("WriteLog", ["logs:CreateLogStream", "logs:PutLogEvents"], f"{group}.Arn")


def statements(deployed: Deployed, role: str) -> list[Json]:
    """All that a role allows."""
    inline = deployed[role].get("Policies", [])
    apart = [policy for policy in deployed.of_type("AWS::IAM::RolePolicy").values() if policy["RoleName"] == role]
    return [each for policy in (*inline, *apart) for each in policy["PolicyDocument"]["Statement"]]


def test_the_data_plane_may_read_what_it_serves_by_and_write_what_requests_leave_behind(stream: Deployed) -> None:
    assert statements(stream, "DataRole") == [
        allow("ReadIndexAndFleet", "s3:GetObject", ["Bucket.Arn/fleet.yaml", "Bucket.Arn/index/*"]),
        may_see_missing("fleet.yaml", "index/*"),
        allow("ReadKeysAndWhatIsRemembered", "dynamodb:GetItem", "Table.Arn"),
        allow("CountSpending", "dynamodb:UpdateItem", "Table.Arn", Condition=of_kinds("StringLike", "spend#*")),
        allow(
            "RememberSessionsAndSpeeds",
            "dynamodb:PutItem",
            "Table.Arn",
            Condition=of_kinds("StringEquals", "session", "speed"),
        ),
        allow("ReadSecret", "secretsmanager:GetSecretValue", "Secret"),
        may_log("DataLogs"),
    ]


def test_the_control_plane_may_edit_the_index_the_fleet_and_the_keys(stream: Deployed) -> None:
    assert statements(stream, "ControlRole") == [
        allow("EditIndexAndFleet", ["s3:GetObject", "s3:PutObject"], ["Bucket.Arn/fleet.yaml", "Bucket.Arn/index/*"]),
        may_see_missing("fleet.yaml", "index/*"),
        allow("ManageKeys", ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"], "Table.Arn"),
        allow("ReadSecret", "secretsmanager:GetSecretValue", "Secret"),
        may_log("ControlLogs"),
    ]


def test_the_inbox_may_edit_the_index_and_empty_itself(stream: Deployed) -> None:
    assert statements(stream, "InboxRole") == [
        allow("TakeFromInbox", ["s3:GetObject", "s3:DeleteObject"], "Bucket.Arn/inbox/*"),
        allow("PutAside", "s3:PutObject", "Bucket.Arn/rejected/*"),
        allow("ReadFleet", "s3:GetObject", "Bucket.Arn/fleet.yaml"),
        allow("EditIndex", ["s3:GetObject", "s3:PutObject"], "Bucket.Arn/index/*"),
        may_see_missing("fleet.yaml", "index/*", "inbox/*"),
        may_log("InboxLogs"),
    ]


def test_each_function_has_its_own_role_which_lambda_alone_may_take(stream: Deployed) -> None:
    roles = [stream[function]["Role"] for function in FUNCTIONS]
    taken_by = [
        statement["Principal"]
        for role in roles
        for statement in stream[role.removesuffix(".Arn")]["AssumeRolePolicyDocument"]["Statement"]
    ]
    policies = {resource["Type"] for resource in stream.resources.values() if resource["Type"].startswith("AWS::IAM::")}
    assert policies == {"AWS::IAM::Role", "AWS::IAM::RolePolicy"}  # statements() looks at both
    assert roles == ["DataRole.Arn", "ControlRole.Arn", "InboxRole.Arn"]
    assert taken_by == [{"Service": "lambda.amazonaws.com"}] * 3


def test_only_the_role_that_api_gateway_logs_with_is_allowed_more_than_exact_resources(stream: Deployed) -> None:
    """AWS's policy for it allows all log groups: the role is the account's, and API Gateway takes none with less."""
    roles = stream.of_type("AWS::IAM::Role")
    wide = [
        statement
        for role in roles
        for statement in statements(stream, role)
        if "*" in "".join(listed(statement["Action"]))
        or not all(EXACT.fullmatch(resource) for resource in listed(statement["Resource"]))
    ]
    managed = {id: role["ManagedPolicyArns"] for id, role in roles.items() if "ManagedPolicyArns" in role}
    assert wide == []
    assert managed == {"GatewayLogsRole": ["arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"]}


def listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_an_account_that_has_a_role_for_api_gateways_logs_keeps_it(template: Json) -> None:
    left = deploy(template, {"GatewayLogging": "present"})
    assert left.of_type("AWS::ApiGateway::Account") == {}
    assert sorted(left.of_type("AWS::IAM::Role")) == ["ControlRole", "DataRole", "InboxRole"]


def test_the_stage_waits_for_the_role_that_it_logs_with(stream: Deployed) -> None:
    assert "GatewayAccount" in stream["Api"]["Description"]


def test_the_bucket_is_private_encrypted_versioned_and_forgets_what_was_replaced(stream: Deployed) -> None:
    assert stream.resources["Bucket"]["DeletionPolicy"] == "Retain"
    assert stream["Bucket"] == {
        "BucketName": BUCKET,
        "VersioningConfiguration": {"Status": "Enabled"},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "old-versions",
                    "Status": "Enabled",
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                    "ExpiredObjectDeleteMarker": True,
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                },
                {"Id": "rejected", "Status": "Enabled", "Prefix": "rejected/", "ExpirationInDays": 30},
            ]
        },
        "NotificationConfiguration": {
            "LambdaConfigurations": [
                {
                    "Event": "s3:ObjectCreated:*",
                    "Function": "InboxFunction.Arn",
                    "Filter": {"S3Key": {"Rules": [{"Name": "prefix", "Value": "inbox/"}]}},
                }
            ]
        },
    }


def test_the_bucket_asks_for_tls_and_for_a_condition_on_every_write_of_head(stream: Deployed) -> None:
    everyone = {"Effect": "Deny", "Principal": "*"}
    assert stream["BucketPolicy"]["Bucket"] == "Bucket"
    assert stream["BucketPolicy"]["PolicyDocument"]["Statement"] == [
        {
            **everyone,
            "Sid": "TlsOnly",
            "Action": "s3:*",
            "Resource": ["Bucket.Arn", "Bucket.Arn/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            **everyone,
            "Sid": "HeadMovesByCompareAndSwap",
            "Action": "s3:PutObject",
            "Resource": "Bucket.Arn/index/HEAD.json",
            "Condition": {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}},
        },
    ]


def test_the_table_is_on_demand_recoverable_encrypted_and_hard_to_lose(stream: Deployed) -> None:
    assert stream.resources["Table"]["DeletionPolicy"] == "Retain"
    assert {
        key: value for key, value in stream["Table"].items() if key not in ("KeySchema", "AttributeDefinitions")
    } == {
        "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "DeletionProtectionEnabled": True,
    }


def test_keys_can_be_kept_in_the_table_that_is_deployed(
    stream: Deployed, dynamodb_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    client = boto3.client("dynamodb", endpoint_url=dynamodb_server, region_name="eu-west-1")
    table = {key: stream["Table"][key] for key in ("KeySchema", "AttributeDefinitions", "BillingMode")}
    client.create_table(TableName="deployed", **table)
    keys = KeyStore(DynamoTable(client, "deployed"), b"pepper")
    record, key = keys.create(NewKey(name="app"))
    assert keys.authenticate(key) == record
    assert keys.list() == [record]


def test_the_pepper_is_made_in_aws_and_outlives_the_stack(stream: Deployed) -> None:
    assert stream.resources["Secret"]["DeletionPolicy"] == "Retain"
    assert stream["Secret"]["GenerateSecretString"] == {
        "SecretStringTemplate": "{}",
        "GenerateStringKey": "pepper",
        "PasswordLength": 64,
        "ExcludePunctuation": True,
    }


def test_every_log_group_forgets(template: Json) -> None:
    groups = deploy(template, {"LogDays": "7"}).of_type("AWS::Logs::LogGroup")
    assert {group["LogGroupName"]: group["RetentionInDays"] for group in groups.values()} == {
        "/nearvote/Router/data": "7",
        "/nearvote/Router/control": "7",
        "/nearvote/Router/inbox": "7",
        "/nearvote/Router/access": "7",
    }


def test_requests_are_throttled_and_never_traced(stream: Deployed) -> None:
    assert stream["ApiliveStage"]["MethodSettings"] == [
        {
            "ResourcePath": "/*",
            "HttpMethod": "*",
            "ThrottlingRateLimit": 50,
            "ThrottlingBurstLimit": 100,
            "MetricsEnabled": True,
            "LoggingLevel": "OFF",
            "DataTraceEnabled": False,
        }
    ]


def test_the_access_log_has_neither_prompts_nor_keys(stream: Deployed) -> None:
    setting = stream["ApiliveStage"]["AccessLogSetting"]
    line = json.loads(setting["Format"])
    assert setting["DestinationArn"] == "AccessLogs.Arn"
    assert sorted(line.values()) == [
        "$context.error.responseType",
        "$context.httpMethod",
        "$context.identity.sourceIp",
        "$context.integrationLatency",
        "$context.path",
        "$context.requestId",
        "$context.requestTime",
        "$context.responseLatency",
        "$context.responseLength",
        "$context.status",
    ]


def test_what_api_gateway_answers_by_itself_has_the_shape_of_nearvotes_errors(stream: Deployed) -> None:
    answers = stream["Api"]["Body"]["x-amazon-apigateway-gateway-responses"]
    bodies = {
        name: json.loads(
            answer["responseTemplates"]["application/json"].replace("$context.error.messageString", '"Too many"')
        )
        for name, answer in answers.items()
    }
    assert bodies == {
        "MISSING_AUTHENTICATION_TOKEN": {"error": error("there is nothing here", "invalid_request_error", "not_found")},
        "DEFAULT_4XX": {"error": error("Too many", "invalid_request_error", "$context.error.responseType")},
        "DEFAULT_5XX": {"error": error("Too many", "server_error", "$context.error.responseType")},
    }


def error(message: str, type: str, code: str) -> Json:
    return {"message": message, "type": type, "param": None, "code": code}


def test_there_are_alarms_for_failures_slowness_and_throttling(stream: Deployed) -> None:
    watched = {
        id: (alarm["MetricName"], [dimension["Value"] for dimension in alarm.get("Dimensions", [])])
        for id, alarm in stream.of_type("AWS::CloudWatch::Alarm").items()
    }
    assert watched == {
        "ServerErrorsAlarm": ("5XXError", ["Router", "live"]),
        "SlowDecisionsAlarm": ("Router-overhead", []),
        "ThrottlesAlarm": ("Throttles", ["DataFunction"]),
        "DataErrorsAlarm": ("Errors", ["DataFunction"]),
        "ControlErrorsAlarm": ("Errors", ["ControlFunction"]),
        "InboxErrorsAlarm": ("Errors", ["InboxFunction"]),
    }


@pytest.mark.parametrize(
    ("topic", "actions"), [("", None), ("arn:aws:sns:eu-west-1:1:t", ["arn:aws:sns:eu-west-1:1:t"])]
)
def test_alarms_go_to_the_topic_if_there_is_one(template: Json, topic: str, actions: list[str] | None) -> None:
    alarms = deploy(template, {"AlarmTopicArn": topic}).of_type("AWS::CloudWatch::Alarm").values()
    assert [alarm.get("AlarmActions") for alarm in alarms] == [actions] * 6
    assert {alarm["TreatMissingData"] for alarm in alarms} == {"notBreaching"}


def test_the_overhead_is_measured_from_request_lines(stream: Deployed) -> None:
    metric = stream["OverheadMetric"]
    (taken,) = metric["MetricTransformations"]
    assert (metric["LogGroupName"], metric["FilterPattern"]) == ("DataLogs", '{ $.event = "request" }')
    assert taken["MetricName"] == stream["SlowDecisionsAlarm"]["MetricName"]
    assert taken["MetricNamespace"] == stream["SlowDecisionsAlarm"]["Namespace"]
    assert taken["MetricValue"] == "$.overhead_ms"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Json:
    """A request line and a forecast line, as they are written."""
    monkeypatch.setattr(requests_log, "handlers", [caplog.handler])
    caplog.set_level(logging.INFO, requests_log.name)
    key = KeyRecord(id="0" * 12, name="app", digest="0" * 64, created_at="2026-01-01T00:00:00+00:00")
    decision = Decision("dec-1", "small", Cause.VOTE, "auto", 0.1, ranking=(Ranked("large", 0.9, 0.9, 5.0, 0.4),))
    record(decision, key, Outcome(200, False, 8.0, 900.0, Usage(10, 20), 0.1))
    record_forecast(decision, decision, key)
    lines = [json.loads(line.getMessage()) for line in caplog.records]
    return {line["event"]: line for line in lines}


QUERY = re.compile(r"SOURCE 'DataLogs' \| filter event = '(request|forecast)'(.*)")
WORD = re.compile(r"'[^']*'|/[^/]*/|\b[a-z]\w*\b")
WORDS = {"and", "or", "like", "stats", "count", "sum", "pct", "bin", "by", "as", "sort", "desc"}


def test_the_dashboard_asks_for_fields_that_the_log_has(stream: Deployed, logged: Json) -> None:
    unknown = {}
    for title, query in dashboard_queries(stream).items():
        asked = QUERY.fullmatch(query)
        assert asked, query
        names = {word for word in WORD.findall(asked[2]) if word[0] not in "'/"} - WORDS
        unknown[title] = names - logged[asked[1]].keys() - set(re.findall(r" as (\w+)", asked[2]))
    assert unknown == {title: set() for title in unknown}


def test_the_dashboard_shows_what_matters(stream: Deployed) -> None:
    assert list(dashboard_queries(stream)) == [
        "Requests per model",
        "Dollars per model",
        "Why this model",
        "Dollars per hour",
        "Dollars saved per hour, beside each key's baseline model",
        "Overhead, ms",
        "Failed requests",
        "What routing would have chosen for keys on forecast",
    ]


def dashboard_queries(deployed: Deployed) -> dict[str, str]:
    """By title."""
    widgets = json.loads(deployed["Dashboard"]["DashboardBody"])["widgets"]
    return {each["properties"]["title"]: each["properties"]["query"] for each in widgets if each["type"] == "log"}


def test_the_dashboard_shows_every_alarm(stream: Deployed) -> None:
    widgets = json.loads(stream["Dashboard"]["DashboardBody"])["widgets"]
    shown = [alarm for each in widgets if each["type"] == "alarm" for alarm in each["properties"]["alarms"]]
    assert sorted(shown) == sorted(f"{id}.Arn" for id in stream.of_type("AWS::CloudWatch::Alarm"))


def test_the_outputs_are_what_bootstrap_needs(stream: Deployed) -> None:
    assert stream.outputs == {
        "Url": "https://Api.execute-api.eu-west-1.amazonaws.com/live",
        "Bucket": "Bucket",
        "Table": "Table",
        "SecretArn": "Secret",
        "DashboardUrl": "https://eu-west-1.console.aws.amazon.com/cloudwatch/home#dashboards:name=Dashboard",
    }


def without_tags(properties: Json) -> Json:
    return {key: value for key, value in properties.items() if key != "Tags"}


def _files(tree: Path) -> dict[str, int]:
    """Every file by its size."""
    return {str(path.relative_to(tree)): path.stat().st_size for path in tree.rglob("*") if path.is_file()}
