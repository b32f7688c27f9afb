from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray
from typer.testing import CliRunner

from agent.cli.app import app

runner = CliRunner()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rules = [{"type": "person.loitering", "zone": "table"}, {"type": "incident.panic", "zone": "table"}]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"format": "vigie-eval/1", "clips": {"absent.mp4": {"rules": rules}}}))
    return path


@pytest.fixture
def reference(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that sees the intruder of the clip well."""
    monkeypatch.setenv("VIGIE_DATA", str(data))
    monkeypatch.setenv("VIGIE_INFERENCE__DETECTOR", "yolox-nano")


@pytest.mark.usefixtures("reference")
def test_an_intruder_in_a_real_clip_becomes_lines_of_json(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    clip = data / "clips" / "yard_intrusion.mp4"
    result = runner.invoke(app, ["replay", str(clip), "--rules", str(data / "labels.json"), "--out", str(out)])

    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["started", "ended"]
    assert set(lines[0]) == {"t", "type", "zone", "phase", "confidence"}
    assert (lines[0]["type"], lines[0]["zone"]) == ("zone.intrusion", "yard")
    assert 4.3 <= lines[0]["t"] <= 7.0


@pytest.mark.usefixtures("reference")
def test_evaluation_of_a_real_clip_passes_its_check(data: Path, tmp_path: Path) -> None:
    table = json.loads((data / "labels.json").read_text())
    name = "yard_intrusion.mp4"
    one = tmp_path / "labels.json"
    one.write_text(json.dumps({**table, "clips": {name: table["clips"][name]}}))
    result = runner.invoke(
        app, ["eval", "events", "--labels", str(one), "--clips", str(data / "clips"), "--json", "--check"]
    )

    assert result.exit_code == 0, result.output
    (verdict,) = json.loads(result.stdout)["clips"]
    assert (verdict["clip"], verdict["result"], verdict["hits"]) == (name, "pass", 1)


def test_the_rules_of_a_configuration_serve_as_well(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "vigie.toml"
    config.write_text(
        """
        [[camera]]
        name = "gate"
        source = "rtsp://camera/stream"
        fps = 5
        [[camera.zone]]
        name = "picture"
        polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
        [[camera.rule]]
        type = "zone.intrusion"
        zone = "picture"
        classes = ["vehicle"]
        [[camera.rule]]
        type = "incident.panic"
        zone = "picture"
        """
    )
    result = runner.invoke(app, ["replay", str(data / "clips" / "person_bicycle_car.mp4"), "--rules", str(config)])

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[0])["phase"] == "started"
    assert "skipped: incident.panic in zone picture" in result.stderr


def test_a_clip_that_is_not_there_is_a_failure_outside(labels: Path) -> None:
    result = runner.invoke(app, ["replay", "absent.mp4", "--rules", str(labels)])

    assert result.exit_code == 3
    assert "absent.mp4" in result.stderr
    assert "skipped: incident.panic in zone table" in result.stderr


@pytest.mark.parametrize(
    ("rules", "reason"),
    [("{labels}#other.mp4", "labels no clip called other.mp4"), ("nowhere/labels.json", "cannot be read")],
)
def test_rules_that_cannot_be_found_are_wrong_usage(labels: Path, rules: str, reason: str) -> None:
    result = runner.invoke(app, ["replay", "absent.mp4", "--rules", rules.format(labels=labels)])

    assert result.exit_code == 2
    assert reason in result.stderr


def test_a_type_that_does_not_exist_cannot_be_looked_at(labels: Path) -> None:
    result = runner.invoke(app, ["eval", "events", "--labels", str(labels), "--clips", ".", "--only", "crowd.dance"])

    assert result.exit_code == 2
    assert "crowd.dance" in result.stderr


def listening(folder: Path, *rules: str) -> Path:
    """A configuration with these rules of the microphone."""
    config = folder / "vigie.toml"
    lines = ["[microphone]", *(line for rule in rules for line in ("[[microphone.rule]]", rule))]
    config.write_text("\n".join(lines) + "\n")
    return config


def test_a_recorded_shot_becomes_lines_of_json(data: Path, tmp_path: Path) -> None:
    config = listening(tmp_path, 'type = "sound.gunshot"', 'type = "sound.explosion"', 'type = "incident.panic"')
    shot = data / "audio" / "gunshot" / "21203e069d4ef6.ogg"
    result = runner.invoke(app, ["replay", str(shot), "--rules", str(config)])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["type"], line["phase"], line["zone"]) for line in lines] == [
        ("sound.gunshot", "started", None),
        ("sound.gunshot", "ended", None),
    ]
    assert lines[0]["t"] <= 1.0
    assert lines[0]["onset"] == pytest.approx(0.13, abs=0.05)
    assert "skipped: sound.explosion: is experimental" in result.stderr
    assert "skipped: incident.panic: needs a rule" in result.stderr


def add_sound(container: OutputContainer, audio: AudioStream, samples: NDArray[np.float32]) -> None:
    """Write all samples of a sound track, (S,)."""
    sound = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    sound.sample_rate = audio.rate
    container.mux(audio.encode(sound))
    container.mux(audio.encode())


def test_the_sound_track_of_a_clip_is_heard_beside_its_pictures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIE_INFERENCE__DETECTOR", "motion")
    shot, _ = soundfile.read(data / "audio" / "gunshot" / "21203e069d4ef6.ogg", dtype="float32")
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for _ in range(10):
            container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode())
        add_sound(container, audio, shot)
    config = listening(tmp_path, 'type = "sound.gunshot"')
    config.write_text(config.read_text() + '[[camera]]\nname = "c"\nsource = "sim:empty"\n')
    result = runner.invoke(app, ["replay", str(clip), "--rules", str(config)])
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["phase"] for line in result.stdout.splitlines()] == ["started", "ended"]


def test_a_recording_needs_rules_that_listen(data: Path, tmp_path: Path) -> None:
    config = tmp_path / "vigie.toml"
    config.write_text('[[camera]]\nname = "c"\nsource = "sim:empty"\n')
    shot = data / "audio" / "gunshot" / "21203e069d4ef6.ogg"
    result = runner.invoke(app, ["replay", str(shot), "--rules", str(config)])
    assert result.exit_code == 3
    assert "has no video in it" in result.stderr


#: A real scream, by a recordist from whom no network learnt.
SCREAM = "audio/scream/1ca545f7b1f3fd.ogg"


def with_sound(clip: Path, sound: Path, at_s: float, out: Path, seconds: float) -> None:
    """Give the beginning of a clip a sound track of faint noise, and from a moment on another sound in it."""
    rate = 16_000
    track = np.random.default_rng(1).normal(0, 0.003, round(seconds * rate)).astype(np.float32)
    heard = soundfile.read(sound, dtype="float32")[0]
    begin = round(at_s * rate)
    track[begin : begin + len(heard)] += heard
    with av.open(str(clip)) as source, av.open(str(out), "w") as made:
        seen = source.streams.video[0]
        video, audio = made.add_stream_from_template(seen), made.add_stream("aac", rate=rate, layout="mono")
        for packet in source.demux(seen):
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = video
                made.mux(packet)
        add_sound(made, audio, track.clip(-1, 1))


def test_a_real_fight_in_which_somebody_screams_is_a_brawl(data: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "fight.mp4", tmp_path / "events.jsonl"
    with_sound(data / "clips" / "stall_fight.mp4", data / SCREAM, 13, clip, 20)
    config = listening(tmp_path, 'type = "sound.scream"', 'type = "incident.brawl"')
    stall = """
        [[camera]]
        name = "stall"
        source = "sim:empty"
        [[camera.zone]]
        name = "stall"
        polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
        [[camera.rule]]
        type = "altercation"
        zone = "stall"
        """
    config.write_text(config.read_text() + stall)
    result = runner.invoke(app, ["replay", str(clip), "--rules", str(config), "--out", str(out)])

    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    started = {line["type"]: line for line in lines if line["phase"] == "started"}
    assert list(started) == ["altercation", "sound.scream", "incident.brawl"]
    brawl = started["incident.brawl"]
    assert 13 <= brawl["t"] <= 15.5
    assert (brawl["zone"], brawl["confidence"], brawl["evidence"]) == ("stall", "confirmed", "scream_altercation")
