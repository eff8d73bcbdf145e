# SPDX-License-Identifier: Apache-2.0
"""Boards behind a TVM RPC tracker: a farm that is measured in parallel.

    python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port 9190
    python -m tvm.exec.rpc_server --tracker 127.0.0.1:9190 --key rasp4     # on each board

A server executes whatever it is sent: whoever reaches its port, or the tracker's, can run code on the board.
Both belong on a network of their own, or on the loopback device behind a tunnel.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import tvm

from bnncc.diagnostics import BnnccError, ExitCode
from bnncc.execution.boards import Execution
from bnncc.tuning.program import Form, Requests
from bnncc.tuning.units import Unit

EXTRAS = "pip install 'bnncc[rpc]'"
WAIT = 5
"""Times that a free server is asked for."""

MARGIN = 30
"""Seconds of a session beside those that the program may take."""

STATUS = 4
"""Bytes of a process's status behind the answers."""


class Rpc:
    """The servers of a tracker that have a key. Every program gets a session of its own, and there a process
    of its own (`runtime/bsp/tvm_rpc.c`), as TVM's server ends with a session that crashes."""

    unit: Unit = "s"
    form: Form = "library"

    def __init__(self, host: str, port: int, key: str):
        """Raises BnnccError where no tracker answers or no server has the key."""
        self.key, self.address = key, (host, port)
        self.name = f"rpc: {key}"
        try:
            # tornado, psutil and cloudpickle are not among TVM's own requirements.
            from tvm import rpc
        except ImportError as error:
            raise BnnccError("--device", f"TVM's RPC needs {error.name}", EXTRAS, ExitCode.FAILURE) from error
        try:
            with socket.create_connection(self.address, timeout=10):
                pass
            summary = rpc.connect_tracker(host, port).summary()
            found = [str(info["key"]).removeprefix("server:") for info in summary["server_info"]]
        except Exception as error:
            # Whatever answers there need not be a tracker.
            raise self._gone(f"no tracker answers: {_last(error)}") from error
        self.servers = found.count(key)
        if not self.servers:
            keys = sorted(set(found))
            raise self._gone(
                f"no server has the key '{key}'" + (f", there are {', '.join(keys)}" if keys else "")
            )

    @property
    def parallel(self) -> int:
        """How many programs may run at a time."""
        return self.servers

    def run(self, program: Path, requests: Requests, seconds: float) -> Execution:
        """As Device says."""
        from tvm import rpc

        try:
            tracker = rpc.connect_tracker(*self.address)
            session = tracker.request(self.key, session_timeout=round(seconds) + MARGIN, max_retry=WAIT)
            return _measure(session, program, requests, max(1, round(seconds)))
        except Exception as error:
            # TVM reports connections that are refused, lost or too slow by many kinds of exceptions.
            raise self._gone(_last(error)) from error

    def _gone(self, why: str) -> BnnccError:
        host, port = self.address
        hint = f"is `python -m tvm.exec.rpc_tracker` running at {host}:{port}, and a server with this key?"
        return BnnccError("--device", f"{self.name} failed: {why}", hint, ExitCode.FAILURE)


def _measure(session: Any, program: Path, requests: Requests, seconds: int) -> Execution:
    session.upload(str(program), target=program.name)
    function = session.load_module(program.name)["measure"]
    device = session.cpu()
    given = tvm.runtime.tensor(np.frombuffer(requests.stream, np.uint8).copy(), device)
    wanted = tvm.runtime.tensor(np.zeros(requests.answered + STATUS, np.uint8), device)
    count = int(function(given, wanted, seconds))
    session.remove(program.name)
    if count < 0:
        return Execution(b"", "", "the board has no memory for the answers")
    answer = wanted.numpy().tobytes()
    status = os.waitstatus_to_exitcode(int.from_bytes(answer[-STATUS:], "little"))
    return Execution(answer[:count], "", f"exit status {status}" if status else "")


def _last(error: Exception) -> str:
    """The last line of what TVM throws, which is the only one that says something."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def open_rpc(address: str) -> Rpc:
    """The device of `rpc://tracker:port?key=K`. Raises BnnccError."""
    parts = urlsplit(f"rpc://{address}")
    keys = parse_qs(parts.query).get("key", [])
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or not port or len(keys) != 1:
        raise BnnccError("--device", f"'rpc://{address}' is incomplete", "rpc://tracker:port?key=K")
    return Rpc(parts.hostname, port, keys[0])
