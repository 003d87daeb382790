"""The example of the advisor: a model, a real log, and a replay that agrees with the advice."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightgbm")

from examples.flight_delays import log as flight_log
from examples.flight_delays.model import DelayModel, Flight
from examples.flight_delays.replay import replay, requests
from model_cache.advisor import advise
from tests.servers import Server

COUNT = 5_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flights") / "flights.parquet"
    assert flight_log.write(path) == 336_776
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DelayModel:
    return DelayModel(tmp_path_factory.mktemp("model") / "model.json")


def test_the_requests_are_in_the_order_of_their_times(log: Path) -> None:
    times = [request.time for request in requests(log, COUNT)]
    assert times == sorted(times)


def test_a_batch_answers_as_single_requests_do(log: Path, model: DelayModel) -> None:
    flights = [request.flight for request in requests(log, 50)]
    assert model.predict_many(flights) == [model.predict(flight) for flight in flights]


def test_a_flight_without_a_known_delay_or_with_an_unknown_airport_is_predicted(
    model: DelayModel,
) -> None:
    flight = Flight(
        month=1, weekday=0, hour=8, carrier="XX", origin="JFK", dest="ZZZ", distance=100.0
    )  # fmt: skip
    assert -120 < model.predict(flight).arr_delay < 2_000


def test_the_advice_agrees_with_the_replay(log: Path, model: DelayModel, server: Server) -> None:
    rows = [
        {"time": request.time, **request.flight.model_dump()} for request in requests(log, COUNT)
    ]
    advice = advise(model, rows, budget=3.0)
    found = replay(model, requests(log, COUNT), {"url": server.url})
    assert found.requests == COUNT
    assert advice.reuse.hit_ratio.value == pytest.approx(found.hit_ratio, abs=0.001)
    assert advice.log.seconds == rows[-1]["time"] - rows[0]["time"]


def test_the_replay_keeps_to_the_times_of_the_log(
    log: Path, model: DelayModel, server: Server
) -> None:
    now = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    replay(
        model, requests(log, 200), {"url": server.url}, speed=3600, clock=lambda: now[0],
        sleep=sleep,
    )  # fmt: skip
    hours = sorted({request.time for request in requests(log, 200)})
    assert sum(waits) == pytest.approx((hours[-1] - hours[0]) / 3600)
