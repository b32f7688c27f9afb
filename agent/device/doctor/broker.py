"""The broker, step by step: name, port, TLS, greeting, access list, round trip. Each step says how long it took.

While the agent runs nothing is published here: its own connection is the proof. While it does not, the device's
retained `status` is published once more word for word, or `offline` where there is none yet, which is so; thus the
access list is tried with a message that the contract has, and nothing else leaves.
"""

from __future__ import annotations

import queue
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion
from pydantic import ValidationError

from agent.contract import Status, topic
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn
from agent.relay.mqtt import MqttError, new_client, tls_context
from agent.settings import MqttSettings

_DNS_S, _TCP_S, _TLS_S, _ANSWER_S = 3.0, 3.0, 3.0, 3.0
#: What the broker has kept comes at once behind its answer to a subscription, seconds.
_KEPT_S = 0.5
_CREDENTIALS, _KEYS = Path("/run/credentials"), Path("/etc/vigie/keys")
_ACCESS = "pattern readwrite vigie/v1/+/%u/#"


class StepError(Exception):
    """A step that failed: which, how, and what to do."""

    def __init__(self, step: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.finding = fail(step, what, fix)


def examine(patient: Patient) -> Findings:
    """What the running agent says of its connection, and every step of one more."""
    running = patient.running
    asked: list[Finding] = []
    if running is not None and running.broker is not None:
        asked.append(ok("agent", f"the agent is connected, MQTT {running.broker}, {running.acknowledged} delivered"))
    try:
        steps = list(trace(patient))
    except StepError as error:
        if asked:  # this user's own try fails where the agent's does not
            line, _, what, fix = error.finding
            return [*asked, warn(line, f"{what} (for this user's own try)", fix)]
        return [error.finding]
    except PermissionError as error:
        return asked or [warn("", f"{error.filename}: this user may not read it", "sudo vigie doctor --only broker")]
    return [*asked, ok("", ", ".join(steps))]


def trace(patient: Patient) -> Iterator[str]:
    """Each step that worked, with its time.

    Raises:
        StepError: one did not.
        PermissionError: a key cannot be read by this user.
    """
    mqtt = _readable(patient.settings.mqtt)
    where = f"{mqtt.host}:{mqtt.port}"
    begun = time.monotonic()
    why = _unresolved(mqtt.host, mqtt.port)
    if why:
        fix = f"is the cable in, and a name server set? resolvectl query {mqtt.host}; cat /etc/resolv.conf"
        raise StepError("DNS", f"the name {mqtt.host} is not found: {why}", fix)
    yield f"DNS {_since(begun)}"
    begun = time.monotonic()
    connection = _connect(mqtt.host, mqtt.port)
    yield f"TCP {_since(begun)}"
    with connection:
        if mqtt.tls:
            begun = time.monotonic()
            yield f"{_secure(connection, mqtt, where)} {_since(begun)}"
    yield from _converse(patient, mqtt, where)


def _unresolved(host: str, port: int) -> str:
    """Why a name has no address; empty where it has one. The system's resolver knows no time-out of ours."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            found.put(error.strerror or str(error))
        else:
            found.put("")

    threading.Thread(target=resolve, name="doctor:dns", daemon=True).start()
    try:
        return found.get(timeout=_DNS_S)
    except queue.Empty:
        return f"no name server answers within {_DNS_S:.0f} s"


def _since(begun: float) -> str:
    return f"{1000 * (time.monotonic() - begun):.0f} ms"


def _readable(mqtt: MqttSettings) -> MqttSettings:
    """The settings with each credential from where it comes, while relay does not run.

    Raises:
        PermissionError: a file of them cannot be read by this user.
    """
    moved = {}
    for name in ("ca_file", "cert_file", "key_file", "password_file"):
        path: Path | None = getattr(mqtt, name)
        if path is None:
            continue
        if path.is_relative_to(_CREDENTIALS) and not path.exists():
            path = moved[name] = _KEYS / path.name
        if path.exists():
            path.open("rb").close()
    return mqtt.model_copy(update=moved)


def _connect(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), _TCP_S)
    except OSError as refusal:
        error = refusal
    where = f"{host}:{port}"
    if isinstance(error, TimeoutError):
        fix = f"a firewall between, or the wrong address: ping {host}; is port {port} open there?"
        raise StepError("TCP", f"{where} gives no answer within {_TCP_S:.0f} s", fix)
    if isinstance(error, ConnectionRefusedError):
        fix = "it is down, or listens on another port: ask the manager; events wait in the outbox meanwhile"
        raise StepError("TCP", f"{where} refuses the connection: no broker listens there", fix)
    fix = "is the cable in, and is there an address? ip addr; ip route"
    raise StepError("TCP", f"{where} cannot be reached: {error.strerror or error}", fix)


def _secure(connection: socket.socket, mqtt: MqttSettings, where: str) -> str:
    try:
        context = tls_context(mqtt)
        assert context is not None  # noqa: S101 - only asked where TLS is on
        connection.settimeout(_TLS_S)
        with context.wrap_socket(connection, server_hostname=mqtt.host) as secured:
            return (secured.version() or "TLS").replace("TLSv", "TLS ")
    except MqttError as error:
        raise StepError("TLS", str(error), "see the line certificate") from None
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        raise StepError("TLS", f"{where}: its certificate is not trusted: {why}", _untrusted(why, mqtt)) from None
    except (ssl.SSLError, OSError) as error:
        why = getattr(error, "reason", None) or error.strerror or str(error)
        fix = "does it speak TLS on this port? See also the line certificate"
        raise StepError("TLS", f"{where}: no TLS: {why}", fix) from None


def _untrusted(why: str, mqtt: MqttSettings) -> str:
    if "expired" in why or "not yet valid" in why:
        return "the broker's certificate is out of date, or this device's clock is wrong: see the line clock"
    if "match" in why or "mismatch" in why.lower():
        return f"mqtt.host must be the name in the broker's certificate, and is {mqtt.host}"
    return f"mqtt.ca_file ({mqtt.ca_file}) is not the broker's authority: copy ca.pem from the manager's machine"


def _converse(patient: Patient, mqtt: MqttSettings, where: str) -> Iterator[str]:
    """Greeting, subscription and round trip."""
    device = patient.settings.device
    name = topic(device.site, device.name, "status")
    heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    begun = time.monotonic()
    version = MQTTProtocolVersion.MQTTv311 if mqtt.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
    client = _client(mqtt, version, heard, where)
    try:
        answer = _wait(heard, "greeting")
        if mqtt.protocol == "auto" and answer is not None and "protocol version" in str(answer).lower():
            client.loop_stop()
            version = MQTTProtocolVersion.MQTTv311
            client = _client(mqtt, version, heard, where)
            answer = _wait(heard, "greeting")
        if answer is None:
            fix = "its TLS wants a certificate that it trusts: see the line certificate; ask the manager for its log"
            raise StepError("CONNACK", f"{where} hangs up, or gives no answer to the greeting", fix)
        if answer.is_failure:
            fix = "user and password, or the certificate's name, are not known there: ask the manager"
            raise StepError("CONNACK", f"{where} refuses this device: {answer}", fix)
        yield f"MQTT {'5' if version is MQTTProtocolVersion.MQTTv5 else '3.1.1'} {_since(begun)}"
        yield from _round_trip(client, name, heard, speaks=patient.running is None, device=device.name)
    finally:
        client.disconnect()
        client.loop_stop()


def _round_trip(
    client: Any, name: str, heard: queue.SimpleQueue[tuple[str, Any]], *, speaks: bool, device: str
) -> Iterator[str]:
    begun = time.monotonic()
    client.subscribe(name, 1)
    granted = _wait(heard, "subscribed")
    denied = f"the access list does not let this device (user {device!r}, by its certificate) below vigie/v1/+/{device}"
    fix = f"the manager gives it {_ACCESS!r}; is device.name the name in the certificate? See the line certificate"
    if granted is None or any(code.is_failure for code in granted):
        raise StepError("ACL", denied, fix)
    kept = _wait(heard, "message", _KEPT_S if speaks else _ANSWER_S)
    if not speaks:
        if kept is None:
            raise StepError("ACL", f"{denied}, or the agent was never connected", fix)
        yield f"round trip {_since(begun)}"
        return
    payload = kept if kept is not None and _is_status(kept) else _offline()
    begun = time.monotonic()
    client.publish(name, payload, qos=1, retain=True)
    if _wait(heard, "message") is None:
        raise StepError("ACL", denied, fix)
    yield f"ACL, round trip {_since(begun)}"


def _offline() -> bytes:
    return Status(state="offline", boot="00000000").model_dump_json().encode()


def _is_status(payload: bytes) -> bool:
    try:
        Status.model_validate_json(payload)
    except ValidationError:
        return False
    return True


def _client(
    mqtt: MqttSettings, version: MQTTProtocolVersion, heard: queue.SimpleQueue[tuple[str, Any]], where: str
) -> Any:
    """A connected client under a name of its own, which takes the agent's session from nobody."""
    try:
        client = new_client(mqtt, f"vigie-doctor-{secrets.token_hex(4)}", version)
        client.on_connect = lambda _c, _u, _f, reason, _p: heard.put(("greeting", reason))
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: heard.put(("subscribed", reasons))
        client.on_disconnect = lambda _c, _u, _f, _r, _p: heard.put(("gone", None))
        client.on_message = lambda _c, _u, message: heard.put(("message", bytes(message.payload)))
        client.connect(mqtt.host, mqtt.port, mqtt.keepalive_s)
    except (MqttError, OSError) as error:
        raise StepError("CONNACK", f"{where}: {error}", "see the line certificate") from None
    client.loop_start()
    return client


def _wait(heard: queue.SimpleQueue[tuple[str, Any]], kind: str, seconds: float = _ANSWER_S) -> Any:
    """What comes of a kind; None where nothing does in time, or the connection ends before."""
    end = time.monotonic() + seconds
    while True:
        try:
            what, value = heard.get(timeout=max(0.001, end - time.monotonic()))
        except queue.Empty:
            return None
        if what == kind:
            return value
        if what == "gone":
            return None
