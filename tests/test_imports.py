"""Imports go one way: scripts → handler.data, handler.control → the rest of handler → index."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers import ROOT

PACKAGES = ("index", "handler", "scripts")
BELOW = {
    "index": {"index"},
    "handler": {"handler", "index"},
    "handler.data": {"handler.data", "handler", "index"},
    "handler.control": {"handler.control", "handler", "index"},
    "scripts": {"scripts", "handler.data", "handler.control", "handler", "index"},
}
"""What the modules of each layer may import of ours."""
WEB = {"starlette", "httpx", "uvicorn", "mangum", "aiohttp", "httpx_aiohttp"}


def layer(module: str) -> str:
    """The longest layer's name that `module` lies in; "" for what is not ours."""
    inside = [name for name in BELOW if module == name or module.startswith(f"{name}.")]
    return max(inside, key=len, default="")


def sources() -> dict[str, Path]:
    """Module name → file."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, also within functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", sources())
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    ours = [name for name in imported(sources()[module]) if name.split(".")[0] in (*PACKAGES, "tests")]
    assert [name for name in ours if layer(name) not in BELOW[layer(module)]] == []


@pytest.mark.parametrize("module", [module for module in sources() if layer(module) == "index"])
def test_the_index_knows_nothing_of_http(module: str) -> None:
    assert {name.split(".")[0] for name in imported(sources()[module])} & WEB == set()


def test_the_rule_sees_every_layer() -> None:
    assert {layer(module) for module in sources()} == set(BELOW)
    assert layer("handler.database") == "handler"
    assert layer("starlette.routing") == ""


def test_the_rule_sees_imports_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "forms.py"
    path.write_text("import a.b as c, d\nfrom handler import data\ndef f():\n    from handler.data.app import x\n")
    assert list(imported(path)) == ["a.b", "d", "handler.data", "handler.data.app.x"]
