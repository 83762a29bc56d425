"""A SAM template as CloudFormation would deploy it: transformed by SAM, conditions and intrinsics worked out."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

SCRIPT = Path(__file__).with_name("sam_transform.py")
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/Router/0f0e-0d0c",
    "AWS::StackName": "Router",
    "AWS::URLSuffix": "amazonaws.com",
}
NOTHING = object()
"""What AWS::NoValue stands for: the property is not there."""


@dataclass(frozen=True)
class Deployed:
    """Resources and outputs; a reference to a resource is its logical id, to its attribute `Id.Attribute`."""

    resources: Mapping[str, Json]
    outputs: Mapping[str, str]

    def __getitem__(self, id: str) -> Json:
        """The resource's properties."""
        properties: Json = self.resources[id]["Properties"]
        return properties

    def of_type(self, type: str) -> dict[str, Json]:
        """Properties by logical id."""
        return {id: self[id] for id, resource in self.resources.items() if resource["Type"] == type}


@dataclass(frozen=True)
class Job:
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def transform(python: Path, jobs: Sequence[Job]) -> list[Json]:
    """What SAM makes of each template. `python` has samtranslator."""
    asked = json.dumps([{"template": job.template, "parameters": dict(job.parameters)} for job in jobs])
    answer = subprocess.run([python, SCRIPT], input=asked, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    templates: list[Json] = json.loads(answer.stdout)
    return templates


def deploy(template: Json, parameters: Mapping[str, str]) -> Deployed:
    resolve = _Resolver(template, parameters)
    resources = {
        id: resolve(resource)
        for id, resource in template["Resources"].items()
        if "Condition" not in resource or resolve.condition(resource["Condition"])
    }
    return Deployed(resources, {id: resolve(output["Value"]) for id, output in template.get("Outputs", {}).items()})


class _Resolver:
    def __init__(self, template: Json, parameters: Mapping[str, str]) -> None:
        defaults = {name: parameter["Default"] for name, parameter in template.get("Parameters", {}).items()}
        self._names: Json = {"AWS::NoValue": NOTHING, **PSEUDO, **defaults, **parameters}
        self._conditions: Json = template.get("Conditions", {})
        self._intrinsics: dict[str, Callable[[Any], Any]] = {
            "Ref": lambda name: self._names.get(name, name),
            "Fn::GetAtt": ".".join,
            "Fn::Sub": self._sub,
            "Fn::If": self._if,
            "Fn::Select": lambda args: self(args[1])[args[0]],
            "Fn::Split": lambda args: self(args[1]).split(args[0]),
            "Fn::Equals": lambda args: str(self(args[0])) == str(self(args[1])),
            "Fn::Not": lambda args: not self(args[0]),
        }

    def __call__(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        name, argument = next(iter(node.items()), ("", None))
        if len(node) == 1 and name in self._intrinsics:
            return self._intrinsics[name](argument)
        assert not any(key.startswith("Fn::") for key in node), f"{name} is not worked out here"
        return {key: value for key, child in node.items() if (value := self(child)) is not NOTHING}

    def condition(self, name: str) -> bool:
        return bool(self(self._conditions[name]))

    def _if(self, arguments: Any) -> Any:
        name, then, otherwise = arguments
        return self(then if self.condition(name) else otherwise)

    def _sub(self, arguments: Any) -> str:
        text, own = arguments if isinstance(arguments, list) else (arguments, {})
        return re.sub(
            r"\$\{([\w:.]+)\}", partial(self._named, {name: self(value) for name, value in own.items()}), text
        )

    def _named(self, own: Json, match: "re.Match[str]") -> str:
        return str(own.get(match[1], self._names.get(match[1], match[1])))
