"""The local state under NEARVOTE_HOME, created where it is missing: pepper, fleet file, starter index, first key."""

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from handler import fleet as fleets
from handler.keys import KeyStore, NewKey, Routing
from handler.services import Services
from index import edits, starter
from index import segment as segments
from index.edits import Embed
from index.embedder import DIMENSIONS
from index.segment import Segment
from index.store import ObjectStore
from index.versions import EMPTY

PROVIDERS = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GEMINI_API_KEY": "google",
    "MISTRAL_API_KEY": "mistral",
    "OPENROUTER_API_KEY": "openrouter",
}
"""Environment variable → fleet template of that provider."""

TEMPLATES = Path(__file__).parent / "fleets"


def ensure_home(home: Path) -> None:
    """The directory and its pepper, both for this user alone."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    pepper = home / "pepper"
    if pepper.exists():
        return
    draft = home / f".pepper-{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_hex(32))
    # A link, not a rename: of two processes that come here together, the first one's pepper stays.
    try:
        pepper.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def ensure_fleet(store: ObjectStore, environ: Mapping[str, str]) -> None:
    if store.get(fleets.KEY) is None:
        store.put(fleets.KEY, fleet_for(environ))


def fleet_for(environ: Mapping[str, str]) -> bytes:
    """The fleet of every provider whose key is there; without any, the simulated one."""
    found = [template for variable, template in PROVIDERS.items() if environ.get(variable)] or ["simulated"]
    texts = [(TEMPLATES / f"{template}.yaml").read_text() for template in found]
    models = "".join(text.split("models:\n", 1)[1] for text in texts)
    comments = "".join(text.split("models:\n", 1)[0] for text in texts)
    return f"{comments}models:\n{models}".encode()


def ensure_index(services: Services, embed: Embed, fingerprint: str, report: Callable[[str], None]) -> None:
    """The starter examples, own and measured, where there is no version yet."""
    head = services.repository.poll_head()
    if head is not None and head[0] != EMPTY:
        return
    report("building the starter index")
    first = starter_segment(embed, fingerprint, report)
    edits.start(services.repository, first, fingerprint, "starter examples")


def starter_segment(embed: Embed, fingerprint: str, report: Callable[[str], None]) -> Segment:
    """The measured examples are left out, and it is told, where this embedder did not make their vectors."""
    examples = starter.own()
    own = segments.from_examples(examples, embed([example.prompt for example in examples]))
    measured = starter.measured(fingerprint)
    if measured is None:
        report("the measured examples are left out: another embedding model made their vectors")
        return own
    return segments.merge([own, measured], DIMENSIONS)


def ensure_key(keys: KeyStore) -> str | None:
    """A first key, routing on; None when there are keys already."""
    if keys.list():
        return None
    _, key = keys.create(NewKey(name="first", routing=Routing.ON))
    return key
