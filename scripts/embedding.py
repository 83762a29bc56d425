"""Many prompts embedded here, with a progress bar."""

from collections.abc import Sequence

from tqdm import tqdm

from handler.control.embedding import LazyEmbedder
from index.types import Floats


def embed_with_bar(embedder: LazyEmbedder, prompts: Sequence[str]) -> Floats:
    with tqdm(total=len(prompts), unit="examples", leave=False) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        return embedder.embed_many(prompts, progress)
