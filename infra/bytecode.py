"""The runtime's Python, where this machine has one, and what it compiles ahead."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.wheels import PYTHON, BuildError

TASK_ROOT = "/var/task"
"""Where Lambda puts the artifact: the path that tracebacks show."""
ASK = "import platform, sys; print('.'.join(map(str, sys.version_info[:2])), platform.python_version())"
ASK_S = 20.0
COMPILE_S = 300.0


def find_python(environ: Mapping[str, str] = os.environ) -> Path | None:
    """A Python 3.13: this one, one on the PATH, or one of pyenv's."""
    return next((python for python in _candidates(environ) if _asked(python).startswith(f"{PYTHON} ")), None)


def version(python: Path | None) -> str:
    """Its full version; "" for None."""
    return _asked(python).partition(" ")[2] if python else ""


def compile_all(tree: Path, python: Path) -> None:
    """A .pyc for each .py, which the runtime takes without looking at the .py again. Raises BuildError."""
    options = ("-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", TASK_ROOT)
    try:
        subprocess.run(  # noqa: S603 - the Python that was found
            [str(python), "-P", "-S", "-m", "compileall", *options, str(tree)],
            env={"PYTHONHASHSEED": "0"},
            timeout=COMPILE_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{python} could not compile the artifact") from error


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(sys.executable)
    on_path = shutil.which(f"python{PYTHON}", path=environ.get("PATH", ""))
    if on_path:
        yield Path(on_path)
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{PYTHON}.*/bin/python"), reverse=True)


def _asked(python: Path) -> str:
    """ "" where it does not run: pyenv puts names on the PATH that lead nowhere."""
    try:
        asked = subprocess.run(  # noqa: S603 - a Python
            [str(python), "-I", "-c", ASK], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
