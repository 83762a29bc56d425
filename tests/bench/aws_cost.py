"""What AWS charges for routing, by its list prices. `python -m tests.bench.aws_cost`

What nearvote does for a request is measured: its milliseconds by `make bench`, its reads, its writes and its log line
by test_aws_cost.py. What the models and their answers are like is assumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from handler.data.speeds import SHARE_S
from handler.secrets import TTL_S
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
DYNAMODB_WRITE = 0.625e-6
"""Of up to 1 KB, on demand."""
SECRET_CALL = 0.05 / 10_000
LOG_GB = 0.50

MILLION = 1_000_000
GB = 1_000_000_000
MEMORY_GB = 1024
"""MB in Lambda's GB."""
CORE_MB = 1769
"""That come with one CPU."""

SECONDS = (1.5, 8.0)
"""That a model takes for a short answer and for a long one."""
OWN_SECONDS = 0.007
"""Of one CPU for a request with `auto`: `python -m tests.bench gateway` has 127 to 160 a second."""
GETS_PER_LOOK = 2
"""HEAD.json and fleet.yaml."""
KEY_SECONDS = 3.0
"""How long a key that was read is used: KeyStore."""
SETTLING_WRITES = 1
"""Of a key without limits: the day's counters."""
RESERVING_WRITES = 2
"""Of a key with a budget for the day and a rate of requests. Other budgets are two more each."""
REMEMBERING_WRITES, REMEMBERING_READS = 1, 1
"""Of a conversation that is long enough for a prompt cache."""
PROMPT_BYTES = 2_000
STREAMED_BYTES = 100_000
"""500 tokens, each in a chunk of 200 bytes."""
WHOLE_BYTES = 3_000
REQUEST_LINE_BYTES = 550
PLATFORM_LINES_BYTES = 350
"""START, END and REPORT, which Lambda writes."""
ACCESS_LINE_BYTES = 350
LOGGED_BYTES = REQUEST_LINE_BYTES + PLATFORM_LINES_BYTES + ACCESS_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Load:
    """One routed request, of many that keep their execution environments busy."""

    seconds: float
    """That the model takes."""
    memory_mb: int = 2048
    architecture: str = "x86_64"
    api_request: float = REST_REQUEST
    answer_bytes: int = STREAMED_BYTES
    poll_seconds: float = Settings().poll_seconds
    logged_bytes: int = LOGGED_BYTES
    writes: int = SETTLING_WRITES
    reads: int = 0
    """Beside the key's."""

    @property
    def own_seconds(self) -> float:
        """A CPU more makes one request no faster."""
        return OWN_SECONDS * max(1.0, CORE_MB / self.memory_mb)


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars per million requests. The models' own prices, cold starts and what costs by the month are not in it."""

    waiting: float
    work: float
    """The fee for the call included."""
    api: float
    transfer: float
    index: float
    keys: float
    spending: float
    """What was spent, conversations, and every SHARE_S the speed of the model that answered."""
    secret: float
    logs: float

    @property
    def total(self) -> float:
        function = self.waiting + self.work
        table = self.keys + self.spending
        return function + self.api + self.transfer + self.index + table + self.secret + self.logs


def per_million(load: Load) -> Bill:
    """An environment answers one request at a time: it looks for news, and reads the key, once per request at most."""
    seconds = load.seconds + load.own_seconds
    looks = min(1.0, seconds / load.poll_seconds) if load.poll_seconds else 1.0
    shares = min(1.0, seconds / SHARE_S)
    second = load.memory_mb / MEMORY_GB * GB_SECOND[load.architecture]
    return Bill(
        waiting=MILLION * load.seconds * second,
        work=MILLION * (load.own_seconds * second + LAMBDA_REQUEST),
        api=MILLION * load.api_request,
        transfer=MILLION * (load.answer_bytes + PROMPT_BYTES) / GB * TRANSFER_GB,
        index=MILLION * looks * GETS_PER_LOOK * S3_GET,
        keys=MILLION * min(1.0, seconds / KEY_SECONDS) * DYNAMODB_READ,
        spending=MILLION * ((load.writes + shares) * DYNAMODB_WRITE + (load.reads + shares) * DYNAMODB_READ),
        secret=MILLION * min(1.0, seconds / TTL_S) * SECRET_CALL,
        logs=MILLION * load.logged_bytes / GB * LOG_GB,
    )


ITEMS: dict[str, Callable[[Bill], float]] = {
    "Lambda, while the model answers": lambda bill: bill.waiting,
    f"Lambda, nearvote's own {OWN_SECONDS * 1000:.0f} ms and the call": lambda bill: bill.work,
    "API Gateway, a REST API": lambda bill: bill.api,
    "data out": lambda bill: bill.transfer,
    "S3, looking for a new index or fleet": lambda bill: bill.index,
    "DynamoDB, reading the key": lambda bill: bill.keys,
    "DynamoDB, counting what was spent and how long it took": lambda bill: bill.spending,
    "Secrets Manager": lambda bill: bill.secret,
    "CloudWatch Logs": lambda bill: bill.logs,
    "**in all**": lambda bill: bill.total,
}
Levers = Mapping[str, Callable[[Load], Load]]
MAIN_LEVERS: Levers = {
    "in all with `Architecture=arm64`": lambda load: replace(load, architecture="arm64"),
    "in all with `DataMemory=1024`": lambda load: replace(load, memory_mb=1024),
    "in all with both": lambda load: replace(load, architecture="arm64", memory_mb=1024),
}
SMALL_LEVERS: Levers = {
    "answers that are not streamed": lambda load: replace(load, answer_bytes=WHOLE_BYTES),
    "the same behind an HTTP API": lambda load: replace(load, answer_bytes=WHOLE_BYTES, api_request=HTTP_REQUEST),
    "`NEARVOTE_POLL_SECONDS=30`": lambda load: replace(load, poll_seconds=30.0),
    "a key with a budget for the day and a rate": lambda load: replace(load, writes=load.writes + RESERVING_WRITES),
    "conversations of 1,024 tokens and more": lambda load: replace(
        load, writes=load.writes + REMEMBERING_WRITES, reads=REMEMBERING_READS
    ),
    "no log lines but nearvote's own": lambda load: replace(load, logged_bytes=REQUEST_LINE_BYTES),
}


def cost_table() -> str:
    """Where the money goes, and what the levers that count make of the sum."""
    bills = [per_million(Load(seconds)) for seconds in SECONDS]
    items = {name: [item(bill) for bill in bills] for name, item in ITEMS.items()}
    return _table("dollars per million requests", items | _sums(MAIN_LEVERS))


def small_levers_table() -> str:
    return _table("dollars per million requests, in all", _sums(SMALL_LEVERS))


def _sums(levers: Levers) -> dict[str, list[float]]:
    return {name: [per_million(pull(Load(seconds))).total for seconds in SECONDS] for name, pull in levers.items()}


def _table(title: str, rows: dict[str, list[float]]) -> str:
    head = [title, *(f"a model that takes {seconds:g} s" for seconds in SECONDS)]
    body = [[name, *(f"{dollars:.2f}" for dollars in row)] for name, row in rows.items()]
    return "\n".join(_line(cells) for cells in (head, ["---", *["---:"] * len(SECONDS)], *body))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(f"{PRICED}\n\n{cost_table()}\n\n{small_levers_table()}")  # noqa: T201
