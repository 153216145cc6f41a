"""A feature party's view: ciphertexts that say nothing, and its own gradients. And what holds of all ciphertexts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.recording import (
    BANK,
    FEATURE_PARTIES,
    LOGISTIC,
    TELCO,
    Recording,
    load_parties,
    record,
)
from protocol.encryption.keys import EncryptedVector
from protocol.errors import RemoteProtocolError
from protocol.messages.alignment import BlindingKey, IdKindAnnouncement, SharedPositions
from protocol.messages.planning import BatchPlan, OpenedColumns, SigmoidSeries, TrainingStart
from protocol.messages.rounds import EncryptedResiduals, EpochEnd, OpenedGradients, RoundEnd
from protocol.messages.scoring import ScoreRequest
from protocol.messages.setup import KeyConfirmation, PublicKeyAnnouncement, SessionKey
from protocol.sharing import shares
from protocol.training.opening import Gradient

SETUP = {
    SessionKey,
    KeyConfirmation,
    OpenedColumns,
    PublicKeyAnnouncement,
    IdKindAnnouncement,
    BlindingKey,
    SharedPositions,
    BatchPlan,
    TrainingStart,
}
ROUNDS = {EncryptedResiduals, OpenedGradients, EpochEnd, ScoreRequest}
REPEATS = {RoundEnd}
DEALER = {SigmoidSeries}


def test_a_feature_party_sees_ciphertexts_and_its_own_gradients(recorded: Recording) -> None:
    for party in FEATURE_PARTIES:
        kinds = {type(message) for _, message in recorded.run.views[party]}
        assert kinds == SETUP | ROUNDS | REPEATS | (DEALER if party == BANK else set())
        # One answer of the coordinator for each of its own requests: nobody else's gradients.
        asked = [r for r in recorded.run.ledgers[party].sent if r.kind == "MaskedGradients"]
        assert len(recorded.received(party, OpenedGradients)) == len(asked) > 0


def test_nobody_can_take_another_partys_mask_off(recorded: Recording) -> None:
    """Each is opened numbers of its own, none of which anybody else is opened."""
    opened = [
        integer
        for party in (*FEATURE_PARTIES, "shop")
        for message in recorded.received(party, OpenedGradients)
        for integer in message.values.integers()
    ]
    assert len(set(opened)) == len(opened)


def test_every_ciphertext_is_hidden_and_none_comes_twice(encrypted: Recording) -> None:
    ciphertexts, n = list(encrypted.ciphertexts()), int(encrypted.key.public_key.n)
    assert len(set(ciphertexts)) == len(ciphertexts) > 1000
    # A ciphertext without randomness, 1 + m n, shows its plaintext to everyone.
    assert not any(ciphertext % n == 1 for ciphertext in ciphertexts)
    # And no two that feature parties hold have their randomness in common, which n does not change.
    theirs = list(encrypted.ciphertexts(*FEATURE_PARTIES))
    assert len({ciphertext % n for ciphertext in theirs}) == len(theirs) > 1000


def test_equal_plaintexts_never_give_equal_ciphertexts(encrypted: Recording) -> None:
    """Bank and telco are sent the same sums about the same users, which neither can see."""
    for ours, theirs in _pairs(encrypted):
        plaintexts = [encrypted.key.decrypt(vector) for vector in (ours, theirs)]
        # Each is told of its entities in an order of its own.
        assert sorted(plaintexts[0]) == sorted(plaintexts[1])
        assert not set(ours.integers()) & set(theirs.integers())


def _pairs(recording: Recording) -> Iterator[tuple[EncryptedVector, EncryptedVector]]:
    key = recording.key.public_key
    sent = [recording.received(party, EncryptedResiduals) for party in (BANK, TELCO)]
    for messages in list(zip(*sent, strict=True))[:4]:
        ours, theirs = (
            EncryptedVector.from_wire(key, message.values, sender="shop") for message in messages
        )
        yield ours, theirs


def test_no_seed_is_dealt_twice(recorded: Recording) -> None:
    seeds = recorded.seeds()
    assert len(set(seeds)) == len(seeds) > 100


def test_a_repeated_round_takes_fresh_randomness(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _exceeded_once(monkeypatch)
    recording = record(load_parties(folder, LOGISTIC, "epochs=2"))
    assert recording.run.label_party.trained.repeated == 1
    seeds, ciphertexts = recording.seeds(), list(recording.ciphertexts())
    assert len(set(seeds)) == len(seeds)
    assert len(set(ciphertexts)) == len(ciphertexts)


def test_a_repeated_round_on_old_randomness_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _exceeded_once(monkeypatch)
    drawn, draw = list[bytes](), shares.draw_seed
    per_round = len(FEATURE_PARTIES) + 2

    def draw_again() -> bytes:
        """Draw for the first round, and then deal the very same once more."""
        drawn.append(drawn[len(drawn) - per_round] if len(drawn) >= per_round else draw())
        return drawn[-1]

    monkeypatch.setattr(shares, "draw_seed", draw_again)
    with pytest.raises(RemoteProtocolError, match="sent the same randomness a second time"):
        record(load_parties(folder, LOGISTIC, "epochs=2"))


def _exceeded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first gradient of the run look as if a share had wrapped."""
    asked = list[Gradient]()

    def exceeded(gradient: Gradient) -> bool:
        asked.append(gradient)
        return len(asked) == 1

    monkeypatch.setattr(Gradient, "exceeded", property(exceeded))
