"""The cameras: does each see. What sense holds is asked of it; what nobody holds is opened for a moment."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from agent.capture.frame import FrameSource, SourceError
from agent.capture.picture import Look, Picture
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, text, warn
from agent.device.doctor.shutter import closed
from agent.settings import CameraSettings, mask_url

#: How long a camera that nobody holds is looked at, seconds; and when that must be over, its connecting included.
LOOK_S, DEADLINE_S = 3.0, 8.0
#: Mean of a picture that is dark, or too bright, of 255; and a share of white that is blinded.
_DARK, _BRIGHT, _BLINDED = 16.0, 235.0, 0.4
#: An edge blurred over this share of the width hides what a person of a twentieth of it looks like.
_BLURRED = 0.0085
_SLOW = 0.7
#: Sense knows its frame rate so long after its start, seconds.
_KNOWN_S = 20


def examine(patient: Patient) -> Findings:
    """Each camera, all at once."""
    cameras = patient.settings.cameras
    if not cameras:
        return [ok("", "none is configured")]
    with ThreadPoolExecutor(len(cameras), "camera") as pool:
        jobs = [pool.submit(_one, patient, place, camera) for place, camera in enumerate(cameras)]
        return [finding for job in jobs for finding in job.result()]


def _one(patient: Patient, place: int, camera: CameraSettings) -> list[Finding]:
    held = patient.held
    if held is not None:
        state = held.cameras[place] if place < len(held.cameras) else "unknown"
        return _asked(patient, camera, state, held.rate if held.uptime_s > _KNOWN_S else "not known yet")
    if closed(patient.settings):
        return [ok(camera.name, "not opened: the privacy shutter is closed")]
    return _look_at(patient, camera)


def _asked(patient: Patient, camera: CameraSettings, state: str, rate: str) -> list[Finding]:
    """What sense says of a camera that it holds; where it says no good of one on the network, look as well."""
    if state == "live" and rate in {"low", "stopped"}:
        return [_slow(camera, f"live, frame rate {rate}, as sense says; {camera.fps:g}/s are wanted")]
    if state in {"live", "ended"}:
        return [ok(camera.name, f"{state}, frame rate {rate}, as sense says")]
    if state == "paused":
        return [ok(camera.name, "the privacy shutter is closed")]
    if camera.source.startswith("rtsp://"):  # another connection takes it from nobody
        return [finding for finding in _look_at(patient, camera) if finding[1]] or [
            warn(camera.name, f"{state}, as sense says, though it answers now", "wait half a minute, and ask again")
        ]
    fault = _said(patient, camera.name)
    return [fail(camera.name, f"{state}, as sense says{f': {fault}' if fault else ''}", _fix(patient, camera, fault))]


def _said(patient: Patient, name: str) -> str:
    """Why sense has lost a camera, by its own log, where that can be read."""
    log = patient.command(("journalctl", "-u", "vigie-sense", "-n", "500", "-o", "cat", "--no-pager")) or ""
    bad = (f"sensor=camera:{name} event=lost", f"sensor=camera:{name} event=stalled")
    lost = [line for line in log.splitlines() if any(words in line for words in bad)]
    return lost[-1].partition("reason=")[2].strip("'\" ") if lost else ""


def _look_at(patient: Patient, camera: CameraSettings) -> list[Finding]:
    begun = time.monotonic()
    try:
        picture = look(open_camera(camera, patient.root), LOOK_S, begun + DEADLINE_S)
    except SourceError as error:
        why = str(error).removeprefix(f"{mask_url(camera.source)}: ")
        return [fail(camera.name, f"{mask_url(camera.source)}: {why}", _fix(patient, camera, why))]
    if picture is None:
        return [fail(camera.name, "it is open, and no frame comes", _fix(patient, camera, ""))]
    return judge(camera, picture)


def open_camera(camera: CameraSettings, root: Path = Path("/")) -> FrameSource:
    """A camera's source, that nobody else holds.

    Args:
        camera: The camera.
        root: Of the file system.

    Raises:
        SourceError: it cannot be opened.
    """
    if camera.source.startswith("sim:"):
        from agent.simulate.source import open_sim

        return open_sim(camera.source, replay=False)[0]
    from agent.capture.open import open_source

    return open_source(direct(camera.source, root), fps=camera.fps, loop=True, replay=False)


def direct(source: str, root: Path = Path("/")) -> str:
    """The address of a camera on the network itself, where sense reaches it through a socket in its own namespace.

    Args:
        source: As sense has it.
        root: Of the file system.
    """
    number = _proxied(source)
    found = re.search(r"^CAMERA=(\S+)$", text(root / "etc" / "vigie" / f"camera-{number}.env"), re.MULTILINE)
    if not number or found is None:
        return source
    parts = urlsplit(source)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{found[1]}"))


def look(source: FrameSource, seconds: float, deadline: float) -> Picture | None:
    """What a source's pictures are like, over some seconds; it is closed then. None where no frame came.

    Args:
        source: The open source.
        seconds: For how long, from the first frame.
        deadline: When it must be over, monotonic seconds.

    Raises:
        SourceError: it failed before it gave a frame.
    """
    found = Look()
    end, seen = deadline, False
    try:
        while time.monotonic() < end:
            frame = source.read(0.5)
            if frame is None:
                continue
            if not seen:
                end, seen = min(deadline, time.monotonic() + seconds), True
            found.add(frame.image, frame.time)
    except EOFError:
        pass
    except SourceError:
        if not seen:
            raise
    finally:
        source.close()
    return found.picture()


def judge(camera: CameraSettings, picture: Picture) -> list[Finding]:
    """What to say of a camera's pictures."""
    name = camera.name
    drawn = camera.source.startswith("sim:")  # some scenarios have no pictures, and none has a lens
    if picture.black and not drawn:
        return [fail(name, "the picture is black", "take the cap off, clean the lens, look for what hangs before it")]
    if picture.still and not drawn and not camera.source.startswith("file:"):
        fix = "move something before it and ask again; if it stays so, cut its power for ten seconds"
        return [fail(name, f"the picture is frozen: {picture.frames} frames, all the same to the bit", fix)]
    seen = f"{picture.width}x{picture.height}, {picture.rate:.0f}/s"
    found = []
    if picture.brightness < _DARK and not drawn:
        found.append(warn(name, f"{seen}, but it is dark", "is there light at this hour? Lamp, infrared, exposure"))
    if picture.brightness > _BRIGHT or picture.white > _BLINDED:
        found.append(warn(name, f"{seen}, but it is blinded: {picture.white:.0%} is white", "turn it from the light"))
    if picture.blur is not None and picture.blur > _BLURRED and not drawn:
        fix = "clean the lens, then turn its focus ring while `vigie test camera` runs"
        found.append(warn(name, f"{seen}, but it is blurred: edges are {picture.blur:.1%} of the width wide", fix))
    if picture.frames > 1 and picture.rate < _SLOW * camera.fps:
        found.append(_slow(camera, f"{seen}, and {camera.fps:g}/s are wanted"))
    sharp = "too few edges to tell the focus" if picture.blur is None else "sharp"
    return found or [ok(name, seen if drawn else f"{seen}, {sharp}, brightness {picture.brightness / 255:.0%}")]


def _slow(camera: CameraSettings, what: str) -> Finding:
    fix = "set the camera's own frame rate, or a lower fps; see power mode and throttling in the line hardware"
    return warn(camera.name, what, fix if camera.source.startswith(("rtsp", "v4l2", "csi")) else "set a lower fps")


def _fix(patient: Patient, camera: CameraSettings, why: str) -> str:
    """What to do about a camera that gives nothing, by its kind."""
    kind = camera.source.partition(":")[0]
    if kind == "rtsp":
        return _network_fix(camera.source, why)
    if kind == "csi":
        dead = patient.command(("systemctl", "is-active", "nvargus-daemon")) is None
        argus = "sudo systemctl restart nvargus-daemon vigie-sense"
        return f"Argus does not run: {argus}" if dead else f"seat its ribbon (power off first); Argus wedged? {argus}"
    if kind == "v4l2":
        known = ", ".join(f"{p.name} {text(p / 'name')}" for p in _video(patient.root)) or "none"
        return f"plug it in again, at another port; the kernel has: {known}"
    return "name another source: vigie config check"


def _network_fix(source: str, why: str) -> str:
    host = urlsplit(source).hostname
    if number := _proxied(source):
        return (
            f"it is behind vigie-camera@{number}: systemctl status vigie-camera@{number}; "
            f"its address is in /etc/vigie/camera-{number}.env; cut the camera's power for ten seconds"
        )
    if "no answer" in why or "nothing has come" in why:
        return f"it is frozen: cut its power (PoE port) for ten seconds; ping {host}"
    return f"is it powered, and is the address right? ping {host}; then its user and password"


def _proxied(source: str) -> str:
    """Number of the unit whose socket this address is, as deploy/systemd has them; empty where it is none."""
    found = re.match(r"rtsp://(?:[^/]*@)?(?:127\.0\.0\.1|localhost):855(\d)(?:/|$)", source)
    return found[1] if found else ""


def _video(root: Path) -> list[Path]:
    return sorted((root / "sys" / "class" / "video4linux").glob("video*"))
