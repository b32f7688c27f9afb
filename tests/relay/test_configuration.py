"""A desired configuration: tried, kept, taken back, and whole whatever happens."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.command import Reported, desired, key_id
from agent.contract import CameraState, Configure, DetectorState, Kind, Observation, ReplyCode, SenseState
from agent.relay.configuration import FILE, Configuration
from agent.relay.trial import KNOWN_S, STARTS, Trial
from agent.settings import Settings
from agent.trust import Trust, TrustFile

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.timezone.utc)
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def own(zone: str = "quay") -> Settings:
    zones = [{"name": zone, "polygon": SQUARE}]
    return Settings.model_validate(
        {
            "device": {"site": "old-port", "name": "cam-07"},
            "camera": [{"name": "north", "source": "csi://0", "zone": zones}],
        }
    )


class Known(TrustFile):
    def __init__(self) -> None:
        super().__init__(Path("nowhere"), service=False)
        self.revoked = False

    def current(self) -> Trust:
        public = KEY.public_key()
        key = {"id": key_id(public), "public": public.public_bytes_raw().hex(), "name": "x", "roles": ("configure",)}
        return Trust.model_validate({"key": [{**key, "revoked": self.revoked}]})


def document(version: int, zone: str = "pier", local: int = 1, **more: Any) -> bytes:
    settings = {"camera": [{"name": "north", "zone": [{"name": zone, "polygon": SQUARE}], **more}]}
    return desired(KEY, "old-port/cam-07", version, local, NOW, settings)


class Bench:
    """Configuration and trial of a device, whose sense says what the test says."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder, self.own = folder, settings or own()
        self.trust = Known()
        self.seconds = 0.0
        self.start()

    def start(self) -> None:
        self.asked: list[Configure] = []
        self.told: list[Reported] = []
        self.configuration = Configuration(self.folder, self.own, self.trust, "0a1b2c3d", lambda: NOW)
        self.trial = Trial(
            self.configuration,
            self.asked.append,
            lambda: self.told.append(self.configuration.reported()),
            lambda: self.seconds,
        )
        self.health: Observation | None = None

    def says(self, camera: CameraState, sense: SenseState = SenseState.READY) -> None:
        states = (camera, CameraState.NONE, CameraState.NONE, CameraState.NONE)
        self.health = Observation(Kind.HEALTH, sense=sense, cameras=states, detector=DetectorState.MODEL)
        self.trial.hear(self.health, self.configuration.settings)

    def take(self, payload: bytes) -> None:
        self.trial.take(payload, NOW)

    def confirms(self) -> None:
        """Sense begins anew with the document."""
        self.configuration.confirm()
        self.health = None

    def later(self, seconds: float) -> None:
        self.seconds += seconds
        self.trial.judge(self.health, NOW)

    def state(self) -> tuple[str, str | None, int | None]:
        reported = self.configuration.reported()
        return reported.state, reported.reason, reported.in_force

    def apply(self, version: int, zone: str = "pier") -> None:
        self.take(document(version, zone))
        self.confirms()
        self.says(CameraState.LIVE)
        self.later(0)
        self.later(10)
        assert self.state() == ("applied", None, version)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.says(CameraState.LIVE)
    return made


def test_a_document_with_which_the_device_is_well_is_applied(bench: Bench) -> None:
    bench.take(document(1))
    assert bench.state()[0] == "trial"
    assert bench.asked == [Configure(document=document(1).decode())]
    bench.later(100)
    assert bench.state()[0] == "trial", "sense has not said that it runs by it"
    bench.confirms()
    bench.says(CameraState.CONNECTING)
    bench.later(1)
    bench.says(CameraState.LIVE)
    bench.later(1)
    assert bench.state()[0] == "trial", "it must last"
    bench.later(10)
    assert bench.state() == ("applied", None, 1)
    assert [told.state for told in bench.told] == ["trial", "applied"]
    bench.start()
    assert bench.configuration.settings.zone_names == ("pier",)


def test_a_camera_that_does_not_come_back_rolls_it_back(bench: Bench) -> None:
    bench.apply(1)
    bench.take(document(2, "roof", source="v4l2:/dev/video63"))
    bench.confirms()
    bench.says(CameraState.LOST, SenseState.DEGRADED)
    bench.later(119)
    assert bench.state()[0] == "trial"
    bench.later(1)
    assert bench.state() == ("rolled_back", "worse", 1)
    assert bench.configuration.settings.zone_names == ("pier",)
    assert bench.asked[-1] == Configure(document=document(1).decode())
    bench.take(document(2, "roof", source="v4l2:/dev/video63"))
    assert bench.state() == ("rolled_back", "worse", 1), "the same document is not tried again"


def test_a_camera_that_was_lost_before_is_not_the_documents_fault(bench: Bench) -> None:
    bench.says(CameraState.LOST, SenseState.DEGRADED)
    bench.says(CameraState.CONNECTING, SenseState.DEGRADED)
    bench.take(document(1))
    bench.confirms()
    bench.says(CameraState.LOST, SenseState.DEGRADED)
    bench.later(0)
    bench.later(10)
    assert bench.state() == ("applied", None, 1)


def test_a_camera_that_was_just_being_opened_must_come_up(bench: Bench) -> None:
    bench.says(CameraState.CONNECTING)
    bench.take(document(1))
    bench.confirms()
    bench.says(CameraState.CONNECTING)
    bench.later(120)
    assert bench.state()[:2] == ("rolled_back", "worse")


def test_a_sense_that_does_not_come_back_or_begins_again_and_again_rolls_it_back(bench: Bench) -> None:
    bench.take(document(1))
    bench.confirms()
    bench.later(120)
    assert bench.state() == ("rolled_back", "sense", None)
    bench.take(document(2))
    for _ in range(STARTS):
        bench.trial.sense_starts()
    bench.later(1)
    assert bench.state() == ("rolled_back", "sense", None)


def test_behind_a_closed_shutter_nothing_is_judged(bench: Bench) -> None:
    bench.take(document(1))
    bench.confirms()
    bench.says(CameraState.PAUSED, SenseState.PAUSED)
    bench.later(1000)
    assert bench.state()[0] == "trial"
    bench.says(CameraState.LOST, SenseState.DEGRADED)
    bench.later(119)
    assert bench.state()[0] == "trial"
    bench.later(1)
    assert bench.state()[0] == "rolled_back"


def test_sense_refuses_what_its_behaviours_cannot_do(bench: Bench) -> None:
    bench.take(document(1))
    bench.trial.refused(ReplyCode.REFUSED)
    assert bench.state() == ("rejected", "settings", None)
    assert bench.asked[-1] == Configure()


def test_a_power_cut_in_a_trial_is_tried_once_more_and_no_more(bench: Bench) -> None:
    bench.apply(1)
    bench.take(document(2, "roof"))
    bench.start()
    assert bench.state()[0] == "trial"
    assert bench.configuration.settings.zone_names == ("roof",)
    bench.start()
    assert bench.state() == ("rolled_back", "interrupted", 1)
    assert not bench.configuration.confirmed, "sense may still run by it"
    assert bench.configuration.settings.zone_names == ("pier",)


def test_a_technicians_edit_puts_the_document_out_of_force_until_a_manager_knows_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.says(CameraState.LIVE)
    bench.apply(1)
    bench.own = own("square")
    bench.start()
    assert bench.state() == ("diverged", None, None)
    reported = bench.configuration.reported()
    assert (reported.local_version, reported.settings["camera"][0]["zone"][0]["name"]) == (2, "square")
    bench.says(CameraState.LIVE)
    bench.take(document(2))
    assert bench.state() == ("diverged", "local_edit", None)
    bench.take(document(3, local=2))
    assert bench.state()[0] == "trial"


def test_a_device_that_was_set_up_anew_takes_what_it_had(bench: Bench) -> None:
    bench.take(document(7, local=3))
    assert bench.state()[0] == "trial"
    assert bench.configuration.reported().local_version == 3


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (document(1), "older_version"),
        (desired(KEY, "old-port/cam-08", 2, 1, NOW, {}), "wrong_target"),
        (desired(Ed25519PrivateKey.from_private_bytes(bytes(32)), "old-port/cam-07", 2, 1, NOW, {}), "unknown_key"),
        (desired(KEY, "old-port/cam-07", 2, 1, NOW, {"policy_file": "/tmp/x"}), "settings"),
        (document(2)[:-1], "malformed"),
        (b"\xff" * 60_000, "too_large"),
    ],
)
def test_what_cannot_be_tried_is_rejected_and_changes_nothing(bench: Bench, payload: bytes, reason: str) -> None:
    bench.apply(1, "first")
    before = bench.configuration.settings
    bench.take(payload)
    assert bench.state() == ("rejected", reason, 1)
    assert bench.configuration.settings == before
    assert not bench.configuration.on_trial


def test_an_unset_clock_or_an_unknown_key_does_not_hold_for_ever(bench: Bench) -> None:
    bench.trial.take(document(1), None)
    assert bench.state() == ("rejected", "clock", None)
    bench.trial.take(document(1), NOW)
    assert bench.state()[0] == "trial"


def test_a_document_waits_for_the_end_of_a_trial_and_the_latest_one_counts(bench: Bench) -> None:
    bench.take(document(1))
    bench.take(document(2))
    bench.take(document(3))
    bench.confirms()
    bench.says(CameraState.LIVE)
    bench.later(0)
    bench.later(10)
    assert bench.state() == ("applied", None, 1)
    bench.later(1)
    assert bench.configuration.reported().version == 3


def test_nothing_is_tried_before_it_is_known_how_the_device_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take(document(1))
    bench.later(1)
    assert bench.state()[0] == "local"
    bench.later(KNOWN_S)
    assert bench.state()[0] == "trial"


def test_a_document_of_a_key_that_was_revoked_is_void_at_the_next_start(bench: Bench) -> None:
    bench.apply(1)
    bench.trust.revoked = True
    bench.start()
    assert bench.state() == ("rejected", "key_revoked", None)
    assert bench.configuration.settings == bench.own
    assert bench.trial.order() == Configure()
    bench.take(document(1))
    assert bench.state() == ("rejected", "key_revoked", None)


def test_a_trust_file_that_is_in_order_again_puts_the_document_in_force_again(bench: Bench) -> None:
    bench.apply(1)
    bench.trust.revoked = True
    bench.start()
    bench.says(CameraState.LIVE)
    bench.trust.revoked = False
    bench.take(document(1))
    assert bench.state() == ("applied", None, 1)
    assert bench.asked == [Configure(document=document(1).decode())]


def test_an_empty_message_says_nothing(bench: Bench) -> None:
    bench.apply(1)
    bench.take(b"")
    assert bench.state() == ("applied", None, 1)


@pytest.mark.parametrize("content", ["", "{", json.dumps({"local": "x"}), "[]"])
def test_a_file_that_cannot_be_read_leaves_the_devices_own_settings(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert Bench(tmp_path).state() == ("local", None, None)


def test_a_disk_that_is_full_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Configuration, "_write", full)
    bench.take(document(1))
    assert bench.state() == ("local", None, None)
    assert bench.asked == []
