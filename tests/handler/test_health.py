import random
from collections import Counter
from dataclasses import dataclass

import pytest

from handler.data.health import LONGEST_ASKED_S, LONGEST_OPEN_S, OPEN_S, Health, Target
from handler.fleet import Deployment, Model, Price


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def target(base_url: str = "https://a/v1", weight: float = 1.0, api_key: str = "") -> Target:
    deployment = Deployment(base_url=base_url, weight=weight, api_key=api_key)
    return Target(Model(name="m", price=Price(input=1, output=1), deployments=(deployment,)), deployment)


ONE = target()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock, random.Random(7))


def fail(health: Health, times: int) -> None:
    for _ in range(times):
        health.failed(ONE)


def test_a_deployment_that_fails_twice_is_still_called(health: Health) -> None:
    fail(health, 2)
    assert (health.admits(ONE), health.wait(ONE)) == (True, 0.0)


def test_a_deployment_that_fails_thrice_in_a_row_is_left_alone(health: Health) -> None:
    fail(health, 3)
    assert (health.admits(ONE), health.wait(ONE)) == (False, OPEN_S)


def test_an_answer_between_failures_starts_the_count_again(health: Health) -> None:
    fail(health, 2)
    health.answered(ONE)
    fail(health, 2)
    assert health.admits(ONE)


def test_after_the_pause_one_request_tries_and_the_others_stay_away(health: Health, clock: Clock) -> None:
    fail(health, 3)
    clock.now += OPEN_S
    assert [health.admits(ONE) for _ in range(3)] == [True, False, False]


def test_a_trial_that_is_answered_closes_the_circuit(health: Health, clock: Clock) -> None:
    fail(health, 3)
    clock.now += OPEN_S
    assert health.admits(ONE)
    health.answered(ONE)
    assert [health.admits(ONE) for _ in range(3)] == [True, True, True]


def test_a_trial_that_fails_leaves_it_alone_for_twice_as_long_up_to_a_minute(health: Health, clock: Clock) -> None:
    fail(health, 3)
    pauses = []
    for _ in range(6):
        pauses.append(health.wait(ONE))
        clock.now += pauses[-1]
        assert health.admits(ONE)
        health.failed(ONE)
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert LONGEST_OPEN_S == 60


def test_a_trial_that_told_nothing_leaves_it_to_the_next_request(health: Health, clock: Clock) -> None:
    fail(health, 3)
    clock.now += OPEN_S
    assert health.admits(ONE)
    health.released(ONE)
    assert [health.admits(ONE) for _ in range(2)] == [True, False]


def test_a_stream_that_has_begun_lets_others_in_again_and_is_forgiven_when_it_has_ended(
    health: Health, clock: Clock
) -> None:
    fail(health, 3)
    clock.now += OPEN_S
    assert health.admits(ONE)
    health.begun(ONE)
    assert [health.admits(ONE) for _ in range(2)] == [True, True]
    health.failed(ONE)  # in the middle
    assert not health.admits(ONE)
    health.answered(ONE)
    assert health.admits(ONE)


def test_many_that_fail_together_open_the_circuit_once(health: Health, clock: Clock) -> None:
    fail(health, 100)
    assert health.wait(ONE) == OPEN_S
    clock.now += OPEN_S
    assert health.admits(ONE)
    health.failed(ONE)
    assert health.wait(ONE) == 2 * OPEN_S


def test_an_outage_of_a_week_is_survived(health: Health, clock: Clock) -> None:
    fail(health, 3)
    for _ in range(7 * 24 * 60):
        clock.now += LONGEST_OPEN_S
        assert health.admits(ONE)
        health.failed(ONE)
    assert health.wait(ONE) == LONGEST_OPEN_S


def test_a_deployment_that_says_for_how_long_is_left_alone_for_so_long_at_once(health: Health, clock: Clock) -> None:
    health.failed(ONE, retry_after=90.0)
    clock.now += 89.9
    assert not health.admits(ONE)
    clock.now += 0.2
    assert health.admits(ONE)


def test_a_later_fault_does_not_shorten_what_it_asked_for(health: Health) -> None:
    health.failed(ONE, retry_after=90.0)
    health.failed(ONE, retry_after=1.0)
    fail(health, 3)
    assert health.wait(ONE) == 90.0


def test_nobody_is_left_alone_for_more_than_an_hour(health: Health) -> None:
    health.failed(ONE, retry_after=1e9)
    assert health.wait(ONE) == LONGEST_ASKED_S == 3600


def test_to_come_again_after_no_time_at_all_counts_like_any_failure(health: Health) -> None:
    health.failed(ONE, retry_after=0.0)
    assert [health.admits(ONE) for _ in range(2)] == [True, True]
    fail(health, 2)
    assert not health.admits(ONE)


def test_two_keys_of_one_provider_fail_each_for_itself(health: Health) -> None:
    dead, alive = target(api_key="${DEAD}"), target(api_key="${ALIVE}")
    for _ in range(3):
        health.failed(dead)
    assert (health.admits(dead), health.admits(alive)) == (False, True)


def first_of(health: Health, targets: list[Target], draws: int, preferred: str = "") -> Counter[str]:
    return Counter(health.order(targets, preferred)[0].deployment.base_url for _ in range(draws))


def test_deployments_come_first_in_the_shares_of_their_weights(health: Health) -> None:
    # 4 standard deviations of 10,000 draws are 200 at a share of a half, and fewer at any other.
    firsts = first_of(health, [target("a", 5), target("b", 3), target("c", 2)], 10_000)
    assert abs(firsts["a"] - 5000) < 200
    assert abs(firsts["b"] - 3000) < 200
    assert abs(firsts["c"] - 2000) < 200


def test_of_the_others_too_the_heavier_comes_first_more_often(health: Health) -> None:
    targets = [target("a", 1), target("b", 3), target("c", 1)]
    after_a = [order[1] for order in (health.order(targets) for _ in range(10_000)) if order[0] is targets[0]]
    share = sum(one is targets[1] for one in after_a) / len(after_a)
    assert share == pytest.approx(3 / 4, abs=0.04)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_only_the_proportion_of_weights_counts(health: Health, scale: float) -> None:
    firsts = first_of(health, [target("a", 3 * scale), target("b", scale)], 10_000)
    assert abs(firsts["a"] - 7500) < 200


def test_the_preferred_deployment_comes_first_whatever_it_weighs(health: Health) -> None:
    assert first_of(health, [target("a", 1000), target("b", 0.001)], 100, preferred="b") == {"b": 100}


def test_every_deployment_stays_in_the_order_equals_too(health: Health) -> None:
    targets = [target("a"), target("a"), target("b")]
    assert sorted(one.deployment.base_url for one in health.order(targets)) == ["a", "a", "b"]


def test_one_deployment_needs_no_draw() -> None:
    class NoDraw(random.Random):
        def expovariate(self, lambd: float = 1.0) -> float:
            raise AssertionError(lambd)

    assert Health(rng=NoDraw()).order([ONE]) == [ONE]
