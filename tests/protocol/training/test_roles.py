"""Every path against arithmetic that shares nothing with it: pandas joins, scipy, a textbook Adam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from parties.model import LocalModel, Optimizer, brier_score
from parties.order import PrivateOrder
from protocol.batches import Batch
from protocol.encryption.keys import PrivateKey
from protocol.errors import GuardError, RemoteProtocolError, SettingsError
from protocol.messages.forward import ContributionSeed, DealtSeed, DealtShare, PartialLogits
from protocol.messages.rounds import EncryptedResiduals, MaskedGradients, PlainResiduals
from protocol.numbers import Words
from protocol.sharing.shares import Series
from protocol.training.gradients import GradientForm, Slots
from scenarios.running import runner
from scenarios.running.runner import Run
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]
Tables = dict[str, pd.DataFrame]


def weights(run: Run) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    halves = [run.label_party.trained, *run.feature_parties.values()]
    return [np.append(half.model.weights, half.model.bias or 0.0) for half in halves]


def test_encrypted_and_plain_runs_agree_to_the_last_bit(load_scenario: LoadScenario) -> None:
    encrypted = runner.run(load_scenario("disclosure=open"))
    plain = runner.run(load_scenario("disclosure=none"))
    for a, b in zip(weights(encrypted), weights(plain), strict=True):
        assert a.tobytes() == b.tobytes()
    assert encrypted.label_party.test_logits.tobytes() == plain.label_party.test_logits.tobytes()


def test_nobody_sees_a_logit_and_the_model_is_the_same(load_scenario: LoadScenario) -> None:
    shared = runner.run(load_scenario("disclosure=shared"), record_views=True)
    plain = runner.run(load_scenario("disclosure=none"))
    for a, b in zip(weights(shared), weights(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    np.testing.assert_allclose(
        shared.label_party.test_logits, plain.label_party.test_logits, atol=5e-3
    )
    heard = {type(message) for view in shared.views.values() for _, message in view}
    assert not heard & {PartialLogits, PlainResiduals}
    assert all(epoch.training_loss is None for epoch in shared.label_party.trained.history)


def test_early_stopping_on_shares_opens_the_brier_score(load_scenario: LoadScenario) -> None:
    run = runner.run(load_scenario("disclosure=shared", "epochs=2"))
    trained = run.label_party.trained
    rows = trained.split.validation
    logits = trained.model.partial_logits(trained.matrix.take(rows.samples))
    for name, half in run.feature_parties.items():
        own = half.matrix.take(rows.entities[name])
        logits = logits + rows.to_samples(name, half.model.partial_logits(own))
    best = next(epoch for epoch in reversed(trained.history) if epoch.best)
    expected = brier_score(logits, trained.labels[rows.samples])
    assert best.validation_loss == pytest.approx(expected, abs=1e-3)


def test_a_wrapped_share_repeats_the_round_with_fresh_randomness(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = runner.run(load_scenario("disclosure=shared", "epochs=1"))
    honest = GradientForm.complete
    wraps: list[bool] = []

    def wrap_once(self: GradientForm, theirs: Slots, share: Words) -> Slots:
        slots = honest(self, theirs, share)
        if not wraps:
            wraps.append(True)
            beyond = [1 << 64, *[0] * (len(slots.values) - 1)]
            return Slots(slots.values.plus(beyond), slots.alone)
        return slots

    monkeypatch.setattr(GradientForm, "complete", wrap_once)
    run = runner.run(load_scenario("disclosure=shared", "epochs=1"), record_views=True)
    assert run.label_party.trained.repeated == 1
    for a, b in zip(weights(run), weights(undisturbed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)
    seeds = [
        message.seed
        for view in run.views.values()
        for _, message in view
        if isinstance(message, ContributionSeed | DealtSeed | DealtShare)
    ]
    assert len(set(seeds)) == len(seeds) > 0


def test_shares_that_always_wrap_end_the_run(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GradientForm.complete

    def wrap(self: GradientForm, theirs: Slots, share: Words) -> Slots:
        slots = honest(self, theirs, share)
        return Slots(slots.values.plus([1 << 64] * len(slots.values)), slots.alone)

    monkeypatch.setattr(GradientForm, "complete", wrap)
    with pytest.raises(
        RemoteProtocolError, match="bank has asked for a round to be played again more often"
    ):
        runner.run(load_scenario("disclosure=shared", "epochs=1"))


def test_too_narrow_an_interval_runs_away_and_clipping_stops_it(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond half a period the sigmoid comes back with the wrong sign; declared bounds keep logits from there."""
    eager = ("disclosure=shared", "learning_rate=3.0", "epochs=12", "l2=0.0", "patience=12")
    guarded = runner.run(load_scenario(*eager, "logit_bound=4.0"))
    clipped = sum(clipped for clipped, _ in guarded.clipped.values())
    assert clipped > 0
    assert any("clipped" in line for line in guarded.warnings)

    narrow = Series.fit(12.0)
    monkeypatch.setattr(Series, "fit", lambda bound: narrow)
    aliased = runner.run(load_scenario(*eager, "logit_bound=1024.0"))
    largest = [np.abs(run.label_party.test_logits).max() for run in (guarded, aliased)]
    assert largest[0] <= 12
    assert largest[1] > narrow.period / 2


def test_bounds_that_cannot_fit_are_refused_before_anything_is_sent(
    load_scenario: LoadScenario,
) -> None:
    with pytest.raises(SettingsError, match="lower logit_bound or latent_bound"):
        runner.load_datasets(load_scenario("disclosure=shared", "logit_bound=100.0"))


def test_a_seed_gives_one_model_and_another_seed_another(load_scenario: LoadScenario) -> None:
    first, again, other = (
        runner.run(load_scenario("disclosure=open", f"seed={seed}")) for seed in (3, 3, 4)
    )
    for a, b, c in zip(weights(first), weights(again), weights(other), strict=True):
        assert a.tobytes() == b.tobytes()
        assert a.tobytes() != c.tobytes()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_joint_training_equals_training_on_the_joined_table(
    load_scenario: LoadScenario, tables: Tables, optimizer: str
) -> None:
    run = runner.run(load_scenario(f"optimizer={optimizer}", "l2=0.01"))
    settings, trained = run.scenario.training, run.label_party.trained

    joined = tables["shop"]
    for name in ("bank", "telco"):
        joined = joined.merge(tables[name], on="user", how="left")
    split, y = trained.split, joined["bought"].to_numpy(float)
    fit = joined.iloc[np.sort(split.training_samples)]
    numbers = [f"x{number}" for number in range(7)]
    parts = make_column_transformer(
        (StandardScaler(), numbers[:5]),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["colour"]),
        (StandardScaler(), numbers[5:]),
    ).fit(fit)
    X = np.column_stack([np.nan_to_num(parts.transform(joined)), np.ones(len(joined))])

    start = [
        LocalModel.initialise(
            np.zeros((width, 1)),
            bias=False,
            optimizer=Optimizer("sgd", 1.0),
            draw=draw,
        )
        for draw, width in (
            (trained.samples.order.generator("weights"), 2),
            (PrivateOrder.of(run.datasets["bank"], 3).generator("weights"), 6),
            (PrivateOrder.of(run.datasets["telco"], 3).generator("weights"), 2),
        )
    ]
    bias = trained.samples.order.generator("weights").normal(0, 0.1, 3)[2]
    w = np.concatenate([*(half.weights for half in start), [bias]])
    m, v, steps, best, best_loss = np.zeros(11), np.zeros(11), 0, w, np.inf
    decay = np.append(np.full(10, settings.l2), 0.0)
    for _ in range(settings.epochs):
        for batch in split.batches:
            rows = X[batch.samples]
            gradient = rows.T @ (expit(rows @ w) - y[batch.samples]) / len(rows) + decay * w
            steps += 1
            if optimizer == "adam":
                m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
                step = (m / (1 - 0.9**steps)) / (np.sqrt(v / (1 - 0.999**steps)) + 1e-8)
            else:
                m = 0.9 * m + gradient
                step = m
            w = w - settings.learning_rate * step
        held = split.validation.samples
        p = expit(X[held] @ w)
        loss = -np.mean(y[held] * np.log(p) + (1 - y[held]) * np.log1p(-p))
        if loss < best_loss:
            best, best_loss = w, loss

    halves = [trained, *run.feature_parties.values()]
    joint = np.concatenate([half.model.weights for half in halves])
    assert np.linalg.norm(joint - best[:-1]) < 1e-3 * np.linalg.norm(best)
    assert trained.model.bias == pytest.approx(best[-1], abs=1e-3)
    np.testing.assert_allclose(run.label_party.test_logits, X[split.test.samples] @ best, atol=2e-3)
    assert trained.history[-1].validation_loss == pytest.approx(loss, abs=1e-3)


def test_many_rows_a_user_cost_one_encryption_each(
    load_scenario: LoadScenario, tables: Tables
) -> None:
    scenario = load_scenario("epochs=1", "batch_size=1000")
    repeated = pd.concat([tables["shop"], tables["shop"]]).assign(extra=np.arange(600.0))
    repeated.to_csv(scenario.folder / "shop.csv", index=False)
    run = runner.run(scenario)
    plain = runner.run(
        scenario.model_copy(
            update={"training": scenario.training.model_copy(update={"disclosure": "none"})}
        )
    )
    for a, b in zip(weights(run), weights(plain), strict=True):
        assert a.tobytes() == b.tobytes()
    (batch,) = run.label_party.trained.split.batches
    users = len(batch.entities["bank"])
    assert users < len(batch)
    assert run.ledgers["shop"].counts["training", "encryptions"] == 2 * users


def test_the_conversation_in_order(load_scenario: LoadScenario) -> None:
    run = runner.run(load_scenario("epochs=1", "batch_size=1000"))
    said = [
        (record.phase, record.sender, record.kind, record.receiver)
        for record in sorted(
            (record for ledger in run.ledgers.values() for record in ledger.sent),
            key=lambda record: record.time,
        )
    ]
    trained = [entry[1:] for entry in said if entry[0] == "training"]
    before = {"PublicKeyAnnouncement", "BatchPlan", "OpenedColumns", "Schedule"}
    before |= {"Allowance"}
    before |= {"KeptEpochs", "TrainingStart"}
    assert sorted(entry for entry in trained if entry[1] in before) == sorted(
        [
            ("coordinator", "PublicKeyAnnouncement", "shop"),
            ("coordinator", "PublicKeyAnnouncement", "bank"),
            ("coordinator", "PublicKeyAnnouncement", "telco"),
            ("shop", "BatchPlan", "bank"),
            ("shop", "BatchPlan", "telco"),
            ("bank", "KeptEpochs", "shop"),
            ("telco", "KeptEpochs", "shop"),
            ("shop", "TrainingStart", "bank"),
            ("shop", "TrainingStart", "telco"),
            ("bank", "OpenedColumns", "shop"),
            ("telco", "OpenedColumns", "shop"),
            ("shop", "Schedule", "coordinator"),
            ("shop", "Allowance", "coordinator"),
            ("shop", "Allowance", "coordinator"),
        ]
    )
    for party in ("bank", "telco"):
        after = [entry for entry in trained if entry[1] not in before]
        assert [entry[1:] for entry in after if entry[0] == party] == [
            ("PartialLogits", "shop"),
            ("MaskedGradients", "coordinator"),
            ("PartialLogits", "shop"),
        ]
        assert [entry[:2] for entry in after if entry[2] == party] == [
            ("shop", "EncryptedResiduals"),
            ("coordinator", "OpenedGradients"),
            ("shop", "EpochEnd"),
        ]
    assert trained[-1][1] == "EpochEnd"


def test_a_round_on_shares_in_order(load_scenario: LoadScenario) -> None:
    run = runner.run(load_scenario("disclosure=shared", "epochs=1", "batch_size=1000"))
    sent = sorted((r for ledger in run.ledgers.values() for r in ledger.sent), key=lambda r: r.time)
    said = [(r.sender, r.kind, r.receiver) for r in sent if r.phase == "training"]

    def between(sender: str, receiver: str) -> list[str]:
        return [kind for a, kind, b in said if (a, b) == (sender, receiver)]

    forward = ["ContributionSeed", "DealtSeed"]
    assert between("bank", "shop") == [
        "KeptEpochs",
        "OpenedColumns",
        *forward,
        "RoundCheck",
        *forward,
    ]
    assert between("telco", "shop")[2:] == ["ContributionSeed", "RoundCheck", "ContributionSeed"]
    forward = ["ContributionShare", "DealtShare"]
    assert between("bank", "coordinator") == [*forward, "MaskedGradients", *forward]
    assert between("coordinator", "shop") == [
        *("PublicKeyAnnouncement", "Opening", "EncryptedShares", "OpenedGradients"),
        *("Opening", "Opening", "BrierShare"),
    ]
    plan = ["BatchPlan", "TrainingStart", "OpenedColumns"]
    assert between("shop", "telco") == [*plan, "EncryptedResiduals", "RoundEnd", "EpochEnd"]


def test_training_stops_when_validation_no_longer_improves(load_scenario: LoadScenario) -> None:
    run = runner.run(
        load_scenario("disclosure=none", "epochs=200", "patience=2", "learning_rate=1.0")
    )
    history = run.label_party.trained.history
    assert len(history) < 200
    best = min(range(len(history)), key=lambda epoch: history[epoch].validation_loss)
    assert len(history) == best + 3
    assert history[best].best


def test_a_guarded_plan_is_not_answered(load_scenario: LoadScenario) -> None:
    # The bank's three colours count only once encoded, which the check of the bare table cannot know.
    scenario = load_scenario("guard_ratio=15")
    with pytest.raises(GuardError, match="bank has 6 columns"):
        runner.run(scenario)
    warned = runner.run(load_scenario("guard_ratio=15", "guard=warn", "epochs=1"))
    assert any("bank has 6 columns" in line for line in warned.warnings)


def test_rare_categories_are_withheld_and_counted(
    load_scenario: LoadScenario, tables: Tables
) -> None:
    scenario = load_scenario("epochs=2", "min_support=40")
    run = runner.run(scenario)
    bank = run.feature_parties["bank"].guard
    assert bank.withheld > 0
    assert bank.opened + bank.withheld == 2 * len(run.label_party.trained.split.batches) * 6
    assert run.feature_parties["telco"].guard.withheld == 0


def test_another_key_size_than_agreed_is_refused(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = PrivateKey.generate
    monkeypatch.setattr(
        PrivateKey, "generate", lambda bits, **options: generate(256, insecure_key=True)
    )
    with pytest.raises(
        RemoteProtocolError, match=r"announced a key of 256 bits where key_bits = 512"
    ):
        runner.run(load_scenario())


def test_a_vector_of_another_length_is_refused(
    load_scenario: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "sum_by_entity", lambda self, party, values: values[:-200])
    with pytest.raises(RemoteProtocolError, match="shop sent"):
        runner.run(load_scenario())


def test_every_ciphertext_that_leaves_a_role_is_randomised(load_scenario: LoadScenario) -> None:
    run = runner.run(load_scenario("epochs=2"), record_views=True)
    seen = []
    for view in run.views.values():
        for _, message in view:
            if isinstance(message, EncryptedResiduals | MaskedGradients):
                width, data = message.values.width, message.values.data
                seen += [data[start : start + width] for start in range(0, len(data), width)]
    n = next(
        int.from_bytes(message.modulus, "little")
        for _, message in run.views["bank"]
        if hasattr(message, "modulus")
    )
    assert len(seen) == sum(
        ledger.counts[phase, "ciphertexts sent"]
        for ledger in run.ledgers.values()
        for phase in ("training", "scoring")
    )
    assert len(set(seen)) == len(seen) > 500
    assert all(int.from_bytes(value, "little") % n != 1 for value in seen)
    plain = [message for _, message in run.views["bank"] if isinstance(message, PlainResiduals)]
    assert not plain


@pytest.mark.parametrize("disclosure", ["open", "shared"])
def test_phe_as_the_engine_gives_the_same_model(
    disclosure: str, load_scenario: LoadScenario
) -> None:
    changes = [f"disclosure={disclosure}", "epochs=1", "model=factorization-machine", "factors=2"]
    changes.append("guard=warn")
    ours, theirs = (
        runner.run(load_scenario(*changes, f"engine={engine}")) for engine in ("colonnade", "phe")
    )
    for name, half in ours.halves.items():
        difference = half.model.parameters - theirs.halves[name].model.parameters
        # Shares are truncated at random, so two runs on them differ in the last bits.
        assert np.abs(difference).max() <= (1e-3 if disclosure == "shared" else 0)
