"""A broker in this process, for `make run` only: MQTT 3.1.1 by amqtt, on loopback, without persistence."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

HOST = "127.0.0.1"
_SHUTDOWN_S = 3.0


class BrokerError(RuntimeError):
    """The embedded broker cannot start; the text says why and what to do."""


@contextlib.contextmanager
def embedded_broker() -> Iterator[int]:
    """Run the broker in a thread for as long as the context lasts; yields its port.

    Raises:
        BrokerError: amqtt is not installed, or it did not start.
    """
    try:
        from amqtt.broker import Broker
    except ImportError as error:
        raise BrokerError("the embedded broker needs amqtt: pip install 'vigie[demo]', or give --broker") from error

    # amqtt logs every client that hangs up as an error.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    loop = asyncio.new_event_loop()
    settings = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(settings, loop)
    thread = threading.Thread(target=loop.run_forever, name="broker", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(broker.start(), loop).result(10)
    except Exception as error:
        loop.call_soon_threadsafe(loop.stop)
        raise BrokerError(f"the embedded broker did not start: {error}") from error
    try:
        yield port
    finally:
        # From Python 3.12 on a server waits for its last connection, and amqtt may leave one open.
        with contextlib.suppress(concurrent.futures.TimeoutError):
            asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(_SHUTDOWN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
