"""Units of a release, as links that a switch carries along."""

from __future__ import annotations

from pathlib import Path

from agent.device.services import Services

ROOT = Path("/opt/vigie")


def _release(folder: Path) -> Path:
    units = folder / "units"
    units.mkdir(parents=True)
    for name in ("vigie.target", "vigie-camera@.socket", "vigie-update-trial.service"):
        (units / name).touch()
    return units


def test_units_are_linked_through_what_runs_and_those_of_the_trial_through_what_has_proved_itself(
    tmp_path: Path,
) -> None:
    Services(ROOT, tmp_path).link(_release(tmp_path / "new"))
    system = tmp_path / "etc" / "systemd" / "system"
    assert str((system / "vigie.target").readlink()) == "/opt/vigie/current/units/vigie.target"
    trial = "/opt/vigie/committed/units/vigie-update-trial.service"
    assert str((system / "vigie-update-trial.service").readlink()) == trial
    assert str((system / "multi-user.target.wants" / "vigie-update-trial.service").readlink()) == trial


def test_what_systemctl_enabled_of_one_release_follows_the_next(tmp_path: Path) -> None:
    system = tmp_path / "etc" / "systemd" / "system"
    enabled = {
        system / "multi-user.target.wants" / "vigie.target": "vigie.target",
        system / "vigie.target.wants" / "vigie-camera@1.socket": "vigie-camera@.socket",
        system / "vigie-camera@1.socket": "vigie-camera@.socket",
    }
    for link, unit in enabled.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/opt/vigie/releases/0.1.0/units/{unit}")
    Services(ROOT, tmp_path).link(_release(tmp_path / "new"))
    assert {link: str(link.readlink()) for link in enabled} == {
        link: f"/opt/vigie/current/units/{unit}" for link, unit in enabled.items()
    }


def test_an_administrators_own_unit_stays(tmp_path: Path) -> None:
    own = tmp_path / "etc" / "systemd" / "system" / "vigie.target"
    own.parent.mkdir(parents=True)
    own.write_text("[Unit]\n")
    assert Services(ROOT, tmp_path).link(_release(tmp_path / "new")) == [str(own)]
    assert own.read_text() == "[Unit]\n"
