"""What Prometheus and Grafana are given: every metric in alerts and dashboards is one that the exporter has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from agent.contract import Health, Status
from agent.fleet.bridges.prometheus import Prometheus

MONITORING = Path(__file__).parents[1] / "deploy" / "monitoring"
RULES = MONITORING / "prometheus" / "vigie.rules.yml"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "fleet.json"


def exported() -> set[str]:
    """Names of the metrics of the exporter."""
    return set(re.findall(r"^# TYPE (\w+)", Prometheus().text(connected=True), re.MULTILINE))


def test_alerts_and_dashboard_ask_for_what_is_exported() -> None:
    for file in (RULES, DASHBOARD):
        asked = set(re.findall(r"\bvigie_\w+", file.read_text()))
        assert asked, file
        assert asked <= exported(), file


def test_they_ask_for_states_that_there_are() -> None:
    states = Status.model_json_schema()["properties"]["state"]["enum"]
    asked = re.findall(r'state="(\w+)"', RULES.read_text()) + re.findall(r'state=\\"(\w+)\\"', DASHBOARD.read_text())
    assert asked
    assert set(asked) <= set(states)
    classes = json.dumps(Health.model_json_schema())
    (bad,) = re.findall(r'class=~\\"([\w|]+)\\"', DASHBOARD.read_text())
    assert all(f'"{word}"' in classes for word in bad.split("|"))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie on one another"
    assert max(x for x, _ in cells) < 24
    assert all(panel["targets"][0]["expr"] for panel in panels)
