"""Every message of the system: who sends it to whom, its fields, and what its receiver learns.

Read in order, this page is the conversation:

====================  =====================  ===========================================  ===================
phase                 message                from -> to                                   disclosure
====================  =====================  ===========================================  ===================
setup                 PublicKeyAnnouncement  coordinator -> data parties                  shared, open
alignment             IdKindAnnouncement     label <-> feature parties (sealed)           all
alignment             BlindingKey            label -> feature parties (sealed)            all
alignment             PartlyBlindedIds       data parties -> data parties (sealed)        all
alignment             BlindedIds             data parties -> coordinator                  all
alignment             SharedPositions        coordinator -> data parties                  all
training              BatchPlan              label -> feature parties (sealed)            all
training              KeptEpochs             feature parties -> label (sealed)            all
training              TrainingStart          label -> feature parties (sealed)            all
training              ColumnScale            feature parties -> label (sealed)            open
training              Schedule               label -> coordinator                         all
training              SigmoidSeries          label -> coordinator, dealer                 shared
training              SamplePositions        label -> coordinator                         shared
each round            PartialLogits          feature parties -> label (sealed)            open, none
each round            ContributionSeed       feature parties -> label (sealed)            shared
each round            ContributionShare      feature parties -> coordinator               shared
each round            DealtSeed              dealer -> label (sealed)                     shared
each round            DealtShare             dealer -> coordinator                        shared
each round            Opening                label <-> coordinator                        shared
each round            EncryptedShares        coordinator -> label                         shared
each round            EncryptedResiduals     label -> feature parties (sealed)            shared, open
each round            PlainResiduals         label -> feature parties (sealed)            none
each round            MaskedGradients        data parties -> coordinator                  shared, open
each round            OpenedGradients        coordinator -> data parties                  shared, open
each round            RoundCheck             feature parties -> label (sealed)            shared
each round            RoundEnd               label -> everyone                            shared
each epoch            BrierShare             coordinator -> label                         shared
each epoch            EpochEnd               label -> everyone                            all
scoring               ScoreRequest           label -> feature parties (sealed)            all
scoring               ScoreSchedule          label -> coordinator                         shared
scoring               LogitShare             coordinator -> label                         shared
====================  =====================  ===========================================  ===================

Scoring and the validation at the end of an epoch take the messages of a forward pass. What goes between two data
parties is sealed end to end: the coordinator, who relays it, cannot read it.
``BlindingKey`` belongs to the alignment method ``keyed-hash``, ``PartlyBlindedIds`` to ``ecdh``; psi/submission.py has
both.

Each conversation has its file: alignment.py, training.py, forward.py, scoring.py. Everyone imports from here.
"""

from __future__ import annotations

from protocol.messages.alignment import (
    BlindedIds,
    BlindingKey,
    IdKindAnnouncement,
    PartlyBlindedIds,
    SharedPositions,
)
from protocol.messages.forward import (
    ContributionSeed,
    ContributionShare,
    DealtSeed,
    DealtShare,
    Opening,
    PartialLogits,
    SamplePositions,
    SigmoidSeries,
)
from protocol.messages.message import (
    DATA_ROLES,
    Ciphertexts,
    FloatArray,
    IntArray,
    Message,
    Residues,
    Role,
    Words,
)
from protocol.messages.scoring import LogitShare, ScoreRequest, ScoreSchedule
from protocol.messages.training import (
    BatchPlan,
    BrierShare,
    ColumnScale,
    EncryptedResiduals,
    EncryptedShares,
    EpochEnd,
    KeptEpochs,
    MaskedGradients,
    OpenedGradients,
    PlainResiduals,
    PublicKeyAnnouncement,
    RoundCheck,
    RoundEnd,
    Schedule,
    TrainingStart,
)

__all__ = [  # noqa: RUF022 - in the order of the conversation, as the tables of messages are
    "PublicKeyAnnouncement",
    "IdKindAnnouncement",
    "BlindingKey",
    "PartlyBlindedIds",
    "BlindedIds",
    "SharedPositions",
    "BatchPlan",
    "KeptEpochs",
    "TrainingStart",
    "ColumnScale",
    "Schedule",
    "SigmoidSeries",
    "SamplePositions",
    "PartialLogits",
    "ContributionSeed",
    "ContributionShare",
    "DealtSeed",
    "DealtShare",
    "Opening",
    "EncryptedShares",
    "EncryptedResiduals",
    "PlainResiduals",
    "MaskedGradients",
    "OpenedGradients",
    "RoundCheck",
    "RoundEnd",
    "BrierShare",
    "ScoreRequest",
    "ScoreSchedule",
    "LogitShare",
    "EpochEnd",
    "MESSAGES",
    "disclosure_table",
    "DATA_ROLES",
    "Ciphertexts",
    "FloatArray",
    "IntArray",
    "Message",
    "Residues",
    "Role",
    "Words",
]

MESSAGES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in sorted(Message.__subclasses__(), key=lambda kind: __all__.index(kind.__name__))
}


def disclosure_table() -> str:
    """Return who learns what from which message as a Markdown table; docs/security.md shows it."""
    rows = [
        "| message | from | to | disclosure | what the receiver learns |",
        "|---|---|---|---|---|",
    ]
    for name, kind in MESSAGES.items():
        senders, receivers = (", ".join(sorted(roles)) for roles in (kind.senders, kind.receivers))
        under = "all" if len(kind.under) == 3 else ", ".join(kind.under)
        rows.append(f"| {name} | {senders} | {receivers} | {under} | {kind.discloses} |")
    return "\n".join(rows)
