"""The simulated fleet, against the broker in this process."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.demo.broker import embedded_broker
from agent.fleet.simulate import SimulationError, simulate
from agent.settings import MqttSettings

pytest.importorskip("amqtt", reason="the embedded broker needs the extra `demo`")


def plain(port: int) -> MqttSettings:
    return MqttSettings(host="127.0.0.1", port=port, tls=False)


def test_what_is_acknowledged_is_received() -> None:
    with embedded_broker() as port:
        figures = simulate([plain(port)], 4, 20, 1)
    assert figures.connected == 4
    assert figures.made == figures.acknowledged == figures.received
    assert figures.made >= 10
    assert (figures.lost, figures.repeated, figures.reconnects) == (0, 0, 0)
    assert figures.ack_ms is not None
    assert figures.ack_ms[0] <= figures.ack_ms[2]


def test_the_command_prints_figures() -> None:
    with embedded_broker() as port:
        where = ["--host", "127.0.0.1", "--port", str(port), "--no-tls"]
        command = ["fleet", *where, "simulate", "--devices", "2", "--rate", "10", "--seconds", "1", "--json"]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["lost"] == 0


def test_a_broker_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.simulate._CONNECT_S", 0.2)
    with pytest.raises(SimulationError, match=r"could not subscribe at 127\.0\.0\.1:1: .*refused"):
        simulate([plain(1)], 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--node", "nowhere"], "is not HOST:PORT"), (["--certificates", "/nonexistent"], "vigie fleet pki issue device")],
)
def test_wrong_options_are_told(options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["fleet", "--host", "127.0.0.1", "--no-tls", "simulate", *options])
    assert result.exit_code == 2
    assert said in result.output
