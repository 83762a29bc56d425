"""infra/README.md says of the template what the template says of itself."""

import re
from collections.abc import Iterator

import yaml

from tests.bench import aws_cost
from tests.infra.artifact import ROOT

README = (ROOT / "infra" / "README.md").read_text()
TEMPLATE = (ROOT / "template.yaml").read_text()
CODE = re.compile(r"`([^`\n]+)`")


class _Loader(yaml.SafeLoader):
    """Reads !Sub and its like as nothing."""


def _nothing(*_: object) -> None:
    pass


_Loader.add_multi_constructor("!", _nothing)
DECLARED = yaml.load(TEMPLATE, _Loader)


def test_every_resource_is_explained_and_no_other() -> None:
    named = {name for row in _rows("resource") for name in CODE.findall(row[0])}
    assert named == set(DECLARED["Resources"])


def test_every_parameter_is_listed_with_its_default() -> None:
    told = {CODE.findall(name)[0]: default for name, default, _ in _rows("parameter")}
    defaults = {name: parameter["Default"] for name, parameter in DECLARED["Parameters"].items()}
    assert told == {name: "empty" if default == "" else f"`{default}`" for name, default in defaults.items()}


def test_the_costs_are_those_that_are_computed() -> None:
    assert aws_cost.small_levers_table() in README


def test_every_path_that_is_named_exists() -> None:
    named = {path for path in CODE.findall(README) if re.fullmatch(r"(infra|tests|handler)/[\w./]+", path)}
    assert named == {"infra/checkov.yaml"}
    assert [path for path in named if not (ROOT / path).exists()] == []


def _rows(first: str) -> Iterator[list[str]]:
    """The cells of the table whose first column has that name."""
    table = README.split(f"\n| {first} | ")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]
