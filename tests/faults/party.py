"""A party as a process of its own that breaks at a chosen step. It is forked, so that it starts at once.

A step is a message that the party is about to send, a checkpoint or a results folder that it is about to put in
place. What it writes to either output comes through one pipe; a line of ``STEP`` marks each step, one of ``SEED`` each
secret that it gives away as a seed of randomness.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from protocol.messages.forward import ContributionSeed, DealtSeed
from protocol.messages.message import Message
from protocol.transport.channel import Channel
from protocol.transport.network import NetworkTransport
from scenarios.commands.main import main
from scenarios.scenario import COORDINATOR

STEP, SEED = "step ", "seed "


def kill() -> None:
    """Die at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    """From now on no file can grow, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@dataclass(frozen=True)
class Forked:
    """A party that runs: its process, and the end of the pipe that its lines come from."""

    name: str
    process: int
    lines: int


def fork(
    name: str, configuration: Path, *, resume: bool, at: int, fault: Callable[[], None] | None
) -> Forked:
    """Start a party in which ``fault`` comes before the step of number ``at``."""
    outlet, inlet = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(outlet)
        _become(name, configuration, inlet, at, fault, resume=resume)
    os.close(inlet)
    return Forked(name, process, outlet)


def _become(
    name: str,
    configuration: Path,
    pipe: int,
    at: int,
    fault: Callable[[], None] | None,
    *,
    resume: bool,
) -> NoReturn:
    os.dup2(pipe, sys.stdout.fileno())
    os.dup2(pipe, sys.stderr.fileno())
    steps = [0]

    def step() -> None:
        print(f"{STEP}{steps[0]}", flush=True)
        if fault is not None and steps[0] == at:
            fault()
        steps[0] += 1

    _before(NetworkTransport, "deliver", step)
    _before(os, "replace", step)
    _before(Path, "rename", step)
    _tell_seeds()
    part = "coordinator" if name == COORDINATOR else "party"
    code: Any = 1
    try:
        main([part, str(configuration), *(["--resume"] if resume else [])])
    except SystemExit as end:
        code = end.code
    finally:
        sys.stderr.flush()
        os._exit(code)


def _before(owner: Any, name: str, step: Callable[[], None]) -> None:
    """Have a function of ``owner`` take a step first."""
    function = getattr(owner, name)

    def stepped(*arguments: Any, **options: Any) -> Any:
        step()
        return function(*arguments, **options)

    setattr(owner, name, stepped)


def _tell_seeds() -> None:
    send = Channel.send

    async def telling(self: Channel, receiver: str, message: Message) -> None:
        if isinstance(message, DealtSeed | ContributionSeed):
            print(f"{SEED}{hashlib.sha256(message.seed).hexdigest()}", flush=True)
        await send(self, receiver, message)

    Channel.send = telling  # type: ignore[method-assign]
