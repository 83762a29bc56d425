"""A deployed stack by its name: where it answers, and where its state lies."""

from dataclasses import dataclass

OUTPUTS = {"url": "Url", "bucket": "Bucket", "table": "Table", "secret": "SecretArn"}
"""Field of Stack → the template's output."""


class StackError(Exception):
    """The stack cannot be found or used; the text says why."""


@dataclass(frozen=True, slots=True)
class Stack:
    url: str
    """Without the /v1."""
    bucket: str
    table: str
    secret: str
    """ARN."""


def find_stack(name: str, region: str | None = None) -> Stack:
    """From CloudFormation's outputs; default region and credentials as boto3 finds them. Raises StackError."""
    status, outputs = _describe(name, region)
    missing = [output for output in OUTPUTS.values() if output not in outputs]
    if missing:
        raise StackError(
            f"stack {name!r} ({status}) has no output {', '.join(missing)}: is it nearvote's, and is it deployed?"
        )
    return Stack(**{field: outputs[output] for field, output in OUTPUTS.items()})


def _describe(name: str, region: str | None) -> tuple[str, dict[str, str]]:
    """Status and outputs."""
    import boto3  # slow, and no local command needs it
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        client = boto3.client("cloudformation", region_name=region, config=config)
        stack = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        raise StackError(f"{error.response['Error']['Message']} (region {client.meta.region_name})") from error
    except (BotoCoreError, ValueError) as error:
        raise StackError(f"stack {name!r} cannot be looked up: {error}") from error
    return stack["StackStatus"], {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
