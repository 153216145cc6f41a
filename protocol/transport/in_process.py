"""All parties in one process: deterministic, and a wait that can never end is an error at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any

from protocol.errors import DeadlockError, PartyUnavailableError
from protocol.ledger import Ledger, metered


class InProcessTransport:
    """Mailboxes in memory. Stands for the star: what data parties send each other is only relayed sealed."""

    def __init__(self) -> None:
        self._mailboxes: dict[tuple[str, str], deque[bytes]] = {}
        self._waiting: dict[str, tuple[str, asyncio.Future[bytes]]] = {}
        self._running: set[str] = set()

    async def deliver(self, sender: str, receiver: str, envelope: bytes) -> None:
        """Put an envelope into the receiver's mailbox, or straight into its hands if it waits."""
        awaited, future = self._waiting.get(receiver, (None, None))
        if awaited == sender and future is not None:
            del self._waiting[receiver]
            future.set_result(envelope)
        else:
            self._mailboxes.setdefault((sender, receiver), deque()).append(envelope)

    async def collect(self, receiver: str, sender: str) -> bytes:
        """Take the next envelope, waiting for it if need be."""
        mailbox = self._mailboxes.get((sender, receiver))
        if mailbox:
            return mailbox.popleft()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[receiver] = (sender, future)
        self._refuse_hopeless_waits()
        try:
            return await future
        finally:
            if future.cancelled():  # whoever gave up waiting may collect it later
                self._waiting.pop(receiver, None)

    async def run(
        self, roles: Mapping[str, Coroutine[Any, Any, Any]], ledgers: Mapping[str, Ledger]
    ) -> dict[str, Any]:
        """Run every role to its end and return what each returned; the first error stops them all."""
        self._running = set(roles)
        tasks: dict[str, asyncio.Task[Any]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for name, role in roles.items():
                    tasks[name] = group.create_task(self._run_role(name, role, ledgers[name]))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return {name: task.result() for name, task in tasks.items()}

    async def _run_role(self, name: str, role: Coroutine[Any, Any, Any], ledger: Ledger) -> Any:
        result = await metered(role, ledger)
        self._running.discard(name)
        self._refuse_hopeless_waits()
        return result

    def _refuse_hopeless_waits(self) -> None:
        """End the wait for a party that has finished; end all of them when everyone waits."""
        for receiver, (sender, future) in list(self._waiting.items()):
            if sender not in self._running and not future.done():
                future.set_exception(
                    PartyUnavailableError(
                        f"{receiver} waits for {sender}, which has ended its part of the run"
                    )
                )
        if self._running and self._running <= self._waiting.keys():
            cycle = ", ".join(
                f"{name} for {self._waiting[name][0]}" for name in sorted(self._running)
            )
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(
                        DeadlockError(f"every party waits and no message is under way: {cycle}")
                    )
