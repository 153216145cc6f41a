"""The command line, but the process dies by SIGKILL when it is about to send the message that FAULT names."""

from __future__ import annotations

import os
import signal

from protocol.network import NetworkTransport
from scenarios.cli import main

VARIABLE = "FAULT"


def arm(party: str, last: int) -> None:
    """Let ``party`` send ``last`` messages and no more."""
    deliver, sent = NetworkTransport.deliver, [0]

    async def deliver_or_die(
        self: NetworkTransport, sender: str, receiver: str, envelope: bytes
    ) -> None:
        if self.name == party and sent[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)
        sent[0] += 1
        await deliver(self, sender, receiver, envelope)

    NetworkTransport.deliver = deliver_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    name, _, number = os.environ[VARIABLE].partition(":")
    arm(name, int(number))
    main()
