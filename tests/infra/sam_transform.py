"""Run by .venv-infra's Python: SAM templates on stdin, what CloudFormation gets of them on stdout.

In: a JSON list of {"template": YAML, "parameters": {name: value}}. Out: a JSON list of templates.
"""

import json
import sys
from typing import Any

import boto3
from samcli.yamlhelper import yaml_parse  # type: ignore[import-not-found]
from samtranslator.parser.parser import Parser  # type: ignore[import-not-found]
from samtranslator.translator.translator import Translator  # type: ignore[import-not-found]

PACKAGE = "s3://artifacts/nearvote.zip"
"""Where `sam deploy` has put the code by the time that AWS transforms the template."""


def transform(template: str, parameters: dict[str, str]) -> Any:
    source = yaml_parse(template)
    source.setdefault("Globals", {}).setdefault("Function", {})["CodeUri"] = PACKAGE
    session = boto3.Session(region_name="eu-west-1")
    return Translator({}, Parser(), boto_session=session).translate(source, parameters)


if __name__ == "__main__":
    json.dump([transform(**job) for job in json.load(sys.stdin)], sys.stdout)
