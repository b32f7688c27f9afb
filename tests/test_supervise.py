"""The supervisor with real child processes: small Python programs that die as told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from agent import pipe
from agent.contract import Kind, Observation, SenseState
from agent.supervise import Child, RestartPolicy, Supervisor, agent_children

QUICK = RestartPolicy(max_restarts=2, window_s=60, backoff_min_s=0.01, backoff_max_s=0.02, stop_s=5)
WAIT = "import signal; signal.pause()"


def child(name: str, program: str, *, leads: bool = False, fds: tuple[int, ...] = ()) -> Child:
    return Child(name, [sys.executable, "-c", program], fds, leads)


def test_an_orderly_end_of_the_leading_child_ends_the_run_with_0() -> None:
    assert Supervisor([child("relay", WAIT), child("sense", "pass", leads=True)], QUICK).run() == 0


def test_a_child_that_keeps_dying_is_given_up_with_1(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(7)"
    assert Supervisor([child("relay", WAIT), child("sense", program, leads=True)], QUICK).run() == 1
    assert starts.read_text() == "xxx", "two restarts are allowed, the third death is one too many"


def test_a_child_that_refuses_its_configuration_is_not_tried_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(2)"
    assert Supervisor([child("relay", program)], QUICK).run() == 2
    assert starts.read_text() == "x"


def test_children_stop_in_reverse_order_on_sigterm(tmp_path: Path) -> None:
    order = tmp_path / "order"
    ready = tmp_path / "ready"
    os.mkfifo(ready)

    def stubborn(name: str) -> str:
        return (
            "import signal, sys\n"
            f"def stop(*_): open({str(order)!r}, 'a').write({name!r}); sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            f"open({str(ready)!r}, 'w').write('x')\n"
            "while True: signal.pause()\n"
        )

    def stop_when_ready() -> None:
        for _ in range(2):
            with ready.open() as fifo:
                seen = fifo.read()
            if len(seen) == 2:
                break
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_ready)
    thread.start()
    assert Supervisor([child("relay", stubborn("r")), child("sense", stubborn("s"))], QUICK).run() == 0
    thread.join()
    assert order.read_text() == "sr"


def test_messages_in_the_pipe_outlive_a_killed_reader(tmp_path: Path) -> None:
    """The first relay is killed with a message unread; the second one, with the same end, gets it."""
    sense_end, relay_end = pipe.pair()
    assert pipe.send(sense_end, Observation(Kind.HEALTH, sense=SenseState.READY))
    got = tmp_path / "got"
    once = tmp_path / "once"
    program = (
        "import os, signal, socket, pathlib\n"
        f"once = pathlib.Path({str(once)!r})\n"
        "if not once.exists(): once.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"s = socket.socket(fileno={relay_end.fileno()})\n"
        f"open({str(got)!r}, 'wb').write(s.recv(64))\n"
    )
    assert Supervisor([child("relay", program, leads=True, fds=(relay_end.fileno(),))], QUICK).run() == 0
    assert Observation.unpack(got.read_bytes()).sense is SenseState.READY
    sense_end.close()
    relay_end.close()


def test_relay_starts_before_sense_and_each_gets_its_own_end() -> None:
    sense_end, relay_end = pipe.pair()
    relay, sense = agent_children(sense_end, relay_end, ["--config", "x.toml"])
    assert (relay.name, sense.name) == ("relay", "sense")
    assert relay.fds == (relay_end.fileno(),)
    assert sense.fds == (sense_end.fileno(),)
    assert sense.leads
    assert not relay.leads
    assert list(sense.command[-2:]) == ["--config", "x.toml"]
    sense_end.close()
    relay_end.close()


def test_a_process_that_must_not_dump_its_memory_cannot_be_made_to() -> None:
    program = (
        "from agent.supervise import never_dump_core; import ctypes, resource; never_dump_core();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0\n", "no room for a dump, and PR_GET_DUMPABLE says no"
