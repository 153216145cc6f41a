"""Every message of the system, a file for each part of the conversation, in its order.

=============  ====================================================================================================
setup.py       keys, before anything else
alignment.py   how parties find the entities that they share
planning.py    what is trained, in which batches: said once
forward.py     from contributions to residuals: each round, each validation, and when rows are scored
rounds.py      from residuals to gradients: each round, and the end of an epoch
scoring.py     what the label party asks for after training
=============  ====================================================================================================

A message's class is all there is to it: its fields, who sends it to whom, under which disclosures, and what its
receiver learns. The table in docs/security.md is made of these classes by :func:`disclosure_table`. What goes between
two data parties is sealed end to end: the coordinator, who relays it, cannot read it.
"""

from __future__ import annotations

from protocol.messages import alignment, forward, planning, rounds, scoring, setup
from protocol.messages.message import Message

MESSAGES: dict[str, type[Message]] = {
    name: kind
    for part in (setup, alignment, planning, forward, rounds, scoring)
    for name, kind in vars(part).items()
    if isinstance(kind, type) and issubclass(kind, Message) and kind.__module__ == part.__name__
}


def disclosure_table() -> str:
    """Return who learns what from which message as a Markdown table; docs/security.md shows it."""
    rows = [
        "| in | message | from | to | disclosure | what the receiver learns |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in MESSAGES.items():
        part = kind.__module__.rpartition(".")[2]
        senders, receivers = (", ".join(sorted(roles)) for roles in (kind.senders, kind.receivers))
        under = "all" if len(kind.under) == 3 else ", ".join(kind.under)
        rows.append(f"| {part} | {name} | {senders} | {receivers} | {under} | {kind.discloses} |")
    return "\n".join(rows)
