"""The cold start is measured; how long it takes is for the benchmark to say, on a quiet machine."""

from pathlib import Path

from tests.bench import cold_start
from tests.infra.artifact import Runtime


def test_a_cold_start_is_measured_in_its_parts(artifact: Path, lambda_runtime: Runtime) -> None:
    assert lambda_runtime.bin.exists()  # where there is none, this is skipped
    report = cold_start.measure(starts=1, warm_up=0, examples=300, caches=(cold_start.DROPPED,), artifact=artifact)
    steps = [
        "interpreter and imports",
        "model",
        "index and ballot",
        "start to ready",
        "start to first decision",
    ]
    assert [(row.step, row.page_cache, row.starts) for row in report.rows] == [
        *((step, "dropped", 1) for step in steps),
        ("boto3 and its clients (in AWS only)", "warm", 1),
    ]
    assert report.aims[0].measured == report.rows[3].median_s
