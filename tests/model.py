"""pytest plugin: the real embedding model, fetched once into the user's cache."""

import os
from pathlib import Path

import pytest

from index.embedder import Embedder
from scripts import model_files


@pytest.fixture(scope="session")
def model_dir() -> Path:
    return model_files.ensure(os.environ, report=print)


@pytest.fixture(scope="session")
def embedder(model_dir: Path) -> Embedder:
    return Embedder(model_dir)
