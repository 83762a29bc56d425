"""Prompts as people send them: an instruction, something pasted, a question at the end. No two are the same."""

import random
from pathlib import Path

from tokenizers import Tokenizer

INSTRUCTIONS = (
    "Summarise ticket {n} for {name}:",
    "Find the bug in change {n}:",
    "Rewrite memo {n} for {name}:",
    "List every date in report {n}:",
    "Review patch {n} by {name}:",
)
QUESTIONS = (
    "What should {name} do first?",
    "Which line is wrong, and why?",
    "Answer in a table of {n} rows.",
    "Is {name} right about this?",
)
PASTED = (
    "The order from {name} was shipped on day {n} and came back because the address had no street number.",
    "At {n} ms the cache had been emptied twice; {name} restarted the worker and the queue drained slowly.",
    "def load_{name}(path, limit={n}):\n    rows = [parse(line) for line in open(path)]\n    return rows[:limit]",
    "{name} noted that revenue rose by {n} percent, while the cost of returns fell for the second quarter in a row.",
    "for item in basket[{n}:]:\n    if item.owner == '{name}' and not item.paid:\n        total += item.price",
    "We agreed that {name} would write to the supplier before clause {n} of the contract expires.",
    "SELECT id, total FROM orders WHERE customer = '{name}' AND total > {n} ORDER BY created_at DESC;",
)
NAMES = ("amara", "boris", "chen", "dalia", "emeka", "fatima", "greta", "hugo", "ines", "jonas", "kavya", "liam")
CHARACTERS_PER_TOKEN = 8
"""More than any text here has, so that enough is pasted before it is cut."""


class Prompts:
    """An endless supply, the same for the same seed."""

    def __init__(self, model_dir: Path, seed: int = 0) -> None:
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._random = random.Random(seed)

    def make(self, tokens: int) -> str:
        """A prompt of so many tokens, at least 32, without the embedder's own two."""
        instruction, question = self._one(INSTRUCTIONS), self._one(QUESTIONS)
        return f"{instruction}\n{self._pasted(tokens - self.count(f'{instruction} {question}'))}\n{question}"

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def _pasted(self, tokens: int) -> str:
        lines: list[str] = []
        while sum(map(len, lines)) < tokens * CHARACTERS_PER_TOKEN:
            lines.append(self._one(PASTED))
        text = "\n".join(lines)
        end: int = self._tokenizer.encode(text, add_special_tokens=False).offsets[tokens - 1][1]
        return text[:end]

    def _one(self, templates: tuple[str, ...]) -> str:
        template = self._random.choice(templates)
        return template.format(n=self._random.randrange(10, 1_000_000), name=self._random.choice(NAMES))
