"""What relay may ask of sense: nothing opens before its word, a pause closes devices, signatures are checked."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import pipe
from agent import sense as sensing
from agent.command import Refused, desired, key_id
from agent.contract import CameraState, ControlCode, Kind, Observation, Phase, ReplyCode, SenseState
from agent.policy import Policy
from agent.sense import Orders, Outlet, Sense
from agent.settings import Settings, SettingsError
from agent.supervise import AGAIN
from agent.trust import Trust, TrustFile

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.timezone.utc)
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]
OWN = Settings.model_validate(
    {
        "device": {"site": "old-port", "name": "cam-07"},
        "inference": {"detector": "motion"},
        "camera": [
            {
                "name": "north",
                "source": "sim:crowd?people=8&seconds=600",
                "zone": [{"name": "quay", "polygon": SQUARE}],
                "rule": [{"type": "crowd.gathering", "zone": "quay", "min_persons": 3, "hold_s": 0.2}],
            }
        ],
    }
)
POLICY = Policy.model_validate(
    {
        "detector": [
            {
                "type": "crowd.gathering",
                "purpose": "crowd safety",
                "legal_basis": "X",
                "body": "the city",
                "contact": "dpo@city.example",
                "retention_days": 30,
                "until": "2999-01-01",
            }
        ]
    }
)


class Known(TrustFile):
    """One key that may sign configurations."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), service=False)

    def current(self) -> Trust:
        public = KEY.public_key()
        key = {"id": key_id(public), "public": public.public_bytes_raw().hex(), "name": "x", "roles": ("configure",)}
        return Trust.model_validate({"key": [key]})


def document(zone: str = "pier", key: Ed25519PrivateKey = KEY, target: str = "old-port/cam-07", **rule: object) -> str:
    rules = [{"type": "crowd.gathering", "zone": zone, "min_persons": 3, **rule}]
    settings = {"camera": [{"name": "north", "zone": [{"name": zone, "polygon": SQUARE}], "rule": rules}]}
    return desired(key, target, 1, 1, NOW, settings).decode()


class Bench:
    """A sense and relay's end of the pipe."""

    def __init__(self) -> None:
        self.near, self.far = pipe.pair()
        self.seen: list[Observation] = []

    def outlet(self) -> Outlet:
        return Outlet(lambda: self.near, self.near, OWN.zone_names, time.monotonic)

    def order(self, control: str, **more: object) -> None:
        self.far.send(json.dumps({"control": control, **more}).encode())

    def hear(self) -> None:
        while message := pipe.receive(self.far):
            self.seen.append(Observation.unpack(message))

    def replies(self) -> list[tuple[ControlCode, ReplyCode]]:
        self.hear()
        return [(o.control, o.reply) for o in self.seen if o.kind is Kind.REPLY]

    def steps(self, sense: Sense, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not until():
            sense.step()
            self.hear()
            assert time.monotonic() < deadline, "it never came to that"

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def bench() -> object:
    made = Bench()
    yield made
    made.close()


def begun(bench: Bench) -> Sense:
    return sensing._begun(bench.outlet(), OWN, POLICY, Known())


def test_a_sense_that_starts_takes_its_orders_first(bench: Bench) -> None:
    bench.order("configure", document=document())
    bench.order("detectors", off=[{"type": "crowd.gathering"}])
    bench.order("pause")
    sense = begun(bench)
    assert [camera.zones[0].name for camera in sense._settings.cameras] == ["pier"]
    assert sense._off == {("crowd.gathering", None)}
    assert sense._paused
    assert bench.seen == []
    assert bench.replies() == [
        (ControlCode.DETECTORS, ReplyCode.DONE),
        (ControlCode.PAUSE, ReplyCode.DONE),
        (ControlCode.CONFIGURE, ReplyCode.DONE),
    ]
    assert bench.seen[0].sense is SenseState.STARTING


@pytest.mark.parametrize(
    "bad",
    [
        document(key=Ed25519PrivateKey.from_private_bytes(bytes(32))),
        document(target="old-port/cam-08"),
        document(min_persons="many"),
        document().replace("pier", "roof"),
        "{",
    ],
)
def test_what_nobody_that_it_trusts_has_signed_or_cannot_be_is_refused_and_the_next_order_counts(
    bench: Bench, bad: str
) -> None:
    bench.order("configure", document=bad)
    bench.order("resume")
    bench.order("configure")
    bench.order("resume")
    assert begun(bench)._settings == OWN
    assert (ControlCode.CONFIGURE, ReplyCode.REFUSED) in bench.replies()
    assert bench.replies()[-1] == (ControlCode.CONFIGURE, ReplyCode.DONE)


def test_a_pause_is_answered_when_the_device_is_closed_and_outlasts_a_new_sense(bench: Bench) -> None:
    bench.order("configure")
    bench.order("resume")
    sense = begun(bench)
    sense._renew_watches()
    camera = sense.cameras[0]
    camera.start()
    try:
        bench.steps(sense, lambda: any(o.phase is Phase.STARTED for o in bench.seen))
        bench.order("pause")
        bench.steps(sense, lambda: (ControlCode.PAUSE, ReplyCode.DONE) in bench.replies())
        assert camera.is_paused
        assert bench.seen[-2].cameras[0] is CameraState.PAUSED, "said before the reply"
    finally:
        camera.close()


def test_a_device_that_does_not_close_ends_the_process(bench: Bench) -> None:
    bench.order("configure")
    bench.order("resume")
    sense = begun(bench)
    sense._renew_watches()  # its camera's thread does not run: it will never say that it is closed
    clock = [0.0]
    sense._clock = lambda: clock[0]
    bench.order("pause")
    sense.step()
    clock[0] += sensing.SHUTTER_S + 1
    sense.step()
    assert sense._stop
    assert sense._spent()
    assert bench.replies()[2:] == []


def test_detectors_that_a_manager_has_switched_off_are_closed_and_come_back(bench: Bench) -> None:
    bench.order("configure")
    bench.order("resume")
    sense = begun(bench)
    camera = sense.cameras[0]
    camera.start()
    try:
        bench.steps(sense, lambda: any(o.phase is Phase.STARTED for o in bench.seen))
        bench.order("detectors", off=[{"type": "crowd.gathering", "zone": "quay"}])
        bench.steps(sense, lambda: any(o.phase is Phase.ENDED for o in bench.seen))
        bench.seen.clear()
        bench.order("detectors", off=[])
        bench.steps(sense, lambda: any(o.phase is Phase.STARTED for o in bench.seen))
    finally:
        camera.close()


def test_another_document_ends_the_process_for_a_new_one_and_a_bad_one_does_not(bench: Bench) -> None:
    bench.order("configure")
    bench.order("resume")
    sense = begun(bench)
    bench.replies()
    bench.seen.clear()
    for bad in (document(min_persons="many"), document(key=Ed25519PrivateKey.from_private_bytes(bytes(32)))):
        bench.order("configure", document=bad)
    bench.order("configure")
    sense.step()
    assert bench.replies() == [(ControlCode.CONFIGURE, r) for r in (*[ReplyCode.REFUSED] * 2, ReplyCode.DONE)]
    assert not sense._stop
    bench.order("configure", document=document())
    assert sense.run() == AGAIN
    assert bench.replies()[-1] == (ControlCode.CONFIGURE, ReplyCode.DONE)


def test_a_restart_ends_the_process_for_a_new_one(bench: Bench) -> None:
    bench.order("configure")
    bench.order("resume")
    sense = begun(bench)
    bench.order("restart")
    assert sense.run() == AGAIN


def test_without_a_trust_file_no_document_is_taken() -> None:
    with pytest.raises(Refused, match="unknown_key"):
        Orders(OWN).configured(document())
    with pytest.raises(Refused, match="unknown_key"):
        Orders(OWN, TrustFile(Path("nowhere"), service=True)).configured(document())


def test_a_document_cannot_reach_what_is_not_a_managers(tmp_path: Path) -> None:
    signed = desired(KEY, "old-port/cam-07", 1, 1, NOW, {"policy_file": str(tmp_path)}).decode()
    with pytest.raises(SettingsError, match="unknown key"):
        Orders(OWN, Known()).configured(signed)
