"""What AWS charges for routing, by its list prices: nothing is measured here. `python -m tests.bench.aws_cost`"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from handler.settings import Settings

PRICED = "us-east-1, November 2025, first tier, no free tier"
"""What the prices below are, in dollars."""
GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
LAMBDA_REQUEST = 0.20e-6
REST_REQUEST = 3.50e-6
"""Of an answer of up to 10 MB, streamed or not."""
HTTP_REQUEST = 1.00e-6
TRANSFER_GB = 0.09
"""To the internet: answers from the API, and prompts from the function. In is free."""
S3_GET = 0.40e-6
"""A 304 too."""
DYNAMODB_READ = 0.125e-6
"""A consistent read of up to 4 KB."""
LOG_GB = 0.50

MILLION = 1_000_000
GB = 1_000_000_000
MEMORY_GB = 1024
"""MB in Lambda's GB."""

SECONDS = (1.5, 8.0)
"""A short answer and a long one."""
GETS_PER_LOOK = 2
"""HEAD.json and fleet.yaml."""
KEY_SECONDS = 3.0
"""How long a key that was read is used: KeyStore."""
PROMPT_BYTES = 2_000
STREAMED_BYTES = 100_000
"""500 tokens, each in a chunk of 200 bytes."""
WHOLE_BYTES = 3_000
REQUEST_LINE_BYTES = 500
PLATFORM_LINES_BYTES = 350
"""START, END and REPORT, which Lambda writes."""
ACCESS_LINE_BYTES = 350
LOGGED_BYTES = REQUEST_LINE_BYTES + PLATFORM_LINES_BYTES + ACCESS_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Load:
    """One routed request, of many that keep their execution environments busy."""

    seconds: float
    """That it takes, waiting for the model included."""
    memory_mb: int = 2048
    architecture: str = "x86_64"
    api_request: float = REST_REQUEST
    answer_bytes: int = STREAMED_BYTES
    poll_seconds: float = Settings().poll_seconds
    logged_bytes: int = LOGGED_BYTES


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars per million requests. The models' own prices, cold starts and what costs by the month are not in it."""

    function: float
    api: float
    transfer: float
    index: float
    keys: float
    logs: float

    @property
    def total(self) -> float:
        return self.function + self.api + self.transfer + self.index + self.keys + self.logs


def per_million(load: Load) -> Bill:
    """An environment answers one request at a time: it looks for news, and reads the key, once per request at most."""
    looks = min(1.0, load.seconds / load.poll_seconds) if load.poll_seconds else 1.0
    gb_seconds = load.seconds * load.memory_mb / MEMORY_GB
    return Bill(
        function=MILLION * (gb_seconds * GB_SECOND[load.architecture] + LAMBDA_REQUEST),
        api=MILLION * load.api_request,
        transfer=MILLION * (load.answer_bytes + PROMPT_BYTES) / GB * TRANSFER_GB,
        index=MILLION * looks * GETS_PER_LOOK * S3_GET,
        keys=MILLION * min(1.0, load.seconds / KEY_SECONDS) * DYNAMODB_READ,
        logs=MILLION * load.logged_bytes / GB * LOG_GB,
    )


LEVERS: dict[str, Callable[[Load], Load]] = {
    "as deployed": lambda load: load,
    "`Architecture=arm64`": lambda load: replace(load, architecture="arm64"),
    "`DataMemory=1024`": lambda load: replace(load, memory_mb=1024),
    "both": lambda load: replace(load, architecture="arm64", memory_mb=1024),
    "answers that are not streamed": lambda load: replace(load, answer_bytes=WHOLE_BYTES),
    "the same behind an HTTP API": lambda load: replace(load, answer_bytes=WHOLE_BYTES, api_request=HTTP_REQUEST),
    "`NEARVOTE_POLL_SECONDS=30`": lambda load: replace(load, poll_seconds=30.0),
    "no log lines but nearvote's own": lambda load: replace(load, logged_bytes=REQUEST_LINE_BYTES),
}


def markdown() -> str:
    """Where the money goes, and what each lever makes of the sum."""
    loads = [Load(seconds) for seconds in SECONDS]
    items = {field.name: [getattr(per_million(load), field.name) for load in loads] for field in fields(Bill)}
    sums = {name: [per_million(pulled(load)).total for load in loads] for name, pulled in LEVERS.items()}
    return f"{_table('dollars per million requests', items)}\n\n{_table('in all', sums)}"


def _table(title: str, rows: dict[str, list[float]]) -> str:
    head = [title, *(f"{seconds:g} s each" for seconds in SECONDS)]
    body = [[name, *(f"{dollars:.2f}" for dollars in row)] for name, row in rows.items()]
    return "\n".join(_line(cells) for cells in (head, ["---", *["---:"] * len(SECONDS)], *body))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(f"{PRICED}\n\n{markdown()}")  # noqa: T201
