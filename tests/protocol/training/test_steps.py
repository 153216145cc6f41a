from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from parties.features import FRACTION_BITS, FixedPointMatrix
from parties.model import LocalModel
from parties.quasi_newton import LONGEST_GRADIENT, LONGEST_STEP, Plan
from protocol.errors import RemoteProtocolError, SettingsError
from protocol.messages.rounds import ProductShare, ProductSum, Step
from protocol.numbers import FloatArray, IntArray
from protocol.sharing.shares import to_reals, to_words
from protocol.training import steps
from protocol.training.checkpoints import TrainingState
from protocol.transport.in_process import InProcessTransport
from scenarios.judging import baselines
from scenarios.judging.baselines import JOINT, POOLED, SKLEARN
from scenarios.running import runner
from scenarios.running.runner import Run, connect
from scenarios.scenario import Scenario

LoadScenario = Callable[..., Scenario]


@pytest.fixture
def load(load_scenario: LoadScenario) -> LoadScenario:
    """The three parties, by steps of second order."""

    def load_with(*changes: str) -> Scenario:
        scenario = load_scenario("epochs=40", *changes)
        training = scenario.training.model_copy(update={"batch_size": None})
        return scenario.model_copy(update={"training": training})

    return load_with


@pytest.mark.parametrize("disclosure", ["none", "open", "shared"])
def test_it_ends_at_the_optimum_of_the_pooled_table(load: LoadScenario, disclosure: str) -> None:
    run = runner.run(load(f"disclosure={disclosure}"))
    trained = run.label_party.trained
    assert trained.converged
    assert len(trained.history) < 20
    assert len(trained.split.batches) == 1
    scores = baselines.compare(run).scores
    for other in (POOLED, SKLEARN):
        assert scores[JOINT].log_loss == pytest.approx(scores[other].log_loss, abs=2e-3)
    # Of some 700 pairs of test rows one may come in the other order.
    assert scores[JOINT].auc == pytest.approx(scores[POOLED].auc, abs=2e-3)


def dense(rows: FixedPointMatrix) -> FloatArray:
    return np.hstack([rows.scaled / 2.0**12, rows.indicators.toarray()])


def test_nobody_could_move_to_a_better_place(load: LoadScenario) -> None:
    """The gradient of the whole loss, worked out from the tables and the final halves, is zero."""
    run = runner.run(load("disclosure=open", "training.tolerance=1e-9"))
    trained = run.label_party.trained
    batch, l2 = trained.split.batches[0], run.scenario.training.l2
    z = trained.model.partial_logits(trained.matrix.take(batch.samples))
    for name, half in run.feature_parties.items():
        own = half.model.partial_logits(half.matrix.take(batch.entities[name]))
        z = z + batch.to_samples(name, own)
    d = expit(z) - trained.labels[batch.samples]
    assert d.mean() == pytest.approx(0, abs=3e-5)
    own = dense(trained.matrix.take(batch.samples)).T @ d / len(d) + l2 * trained.model.weights
    assert np.abs(own).max() < 3e-5
    for name, half in run.feature_parties.items():
        rows = dense(half.matrix.take(batch.entities[name]))
        sums = np.zeros(len(batch.entities[name]))
        np.add.at(sums, batch.entity_of[name], d)
        columns = half.guard.columns[0]
        gradient = rows.T @ sums / len(d) + l2 * half.model.weights
        assert np.abs(gradient[columns]).max() < 3e-5


def test_disclosures_without_a_series_give_the_same_model_bit_for_bit(load: LoadScenario) -> None:
    def weights(disclosure: str) -> bytes:
        run = runner.run(load(f"disclosure={disclosure}", "epochs=6", "min_support=1"))
        halves = [run.label_party.trained, *run.feature_parties.values()]
        return b"".join(half.model.parameters.tobytes() for half in halves)

    assert weights("open") == weights("none")


@pytest.mark.parametrize("disclosure", ["open", "shared"])
def test_a_training_that_broke_goes_on_to_the_same_end(
    load: LoadScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disclosure: str
) -> None:
    whole = runner.run(load(f"disclosure={disclosure}"))
    taken = list[int]()
    honest = steps.QuasiNewton.take

    async def breaks(self: steps.QuasiNewton, *gradients: object) -> None:
        if self.channel.name == "bank":
            taken.append(1)
            if len(taken) == 4:
                raise RemoteProtocolError("the line is cut")
        await honest(self, *gradients)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(steps.QuasiNewton, "take", breaks)
        with pytest.raises(RemoteProtocolError, match="the line is cut"):
            runner.run(load(f"disclosure={disclosure}"), keep_in=tmp_path)
    resumed = runner.run(load(f"disclosure={disclosure}"), keep_in=tmp_path)
    assert resumed.label_party.trained.converged
    # Logits, as a shift between all colours and the bias hardly moves the loss.
    np.testing.assert_allclose(
        resumed.label_party.test_logits, whole.label_party.test_logits, atol=1e-2
    )
    if disclosure == "open":
        assert len(resumed.label_party.trained.history) == len(whole.label_party.trained.history)


def test_closed_columns_have_no_weight(load: LoadScenario) -> None:
    run = runner.run(load("disclosure=shared", "min_support=60"))
    bank = run.feature_parties["bank"]
    closed = np.setdiff1d(np.arange(bank.matrix.n_columns), bank.guard.columns[0])
    assert len(closed)
    assert not bank.model.weights[closed].any()


def test_a_run_that_ends_too_early_says_so(load: LoadScenario) -> None:
    scenario = load("disclosure=none")
    training = scenario.training.model_copy(update={"epochs": 2})
    run = runner.run(scenario.model_copy(update={"training": training}))
    assert not run.label_party.trained.converged
    assert any("ended after 2 epochs before it converged" in line for line in run.warnings)


def test_other_numbers_of_products_are_refused(
    load: LoadScenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ProductShare.__init__

    def longer(self: ProductShare, values: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
        honest(self, np.zeros(30, dtype=np.uint64))

    monkeypatch.setattr(ProductShare, "__init__", longer)
    with pytest.raises(RemoteProtocolError, match="bank, telco sent 30, 30 products"):
        runner.run(load("disclosure=none"))


@pytest.mark.parametrize("sent", [0, 2, 3])
def test_other_numbers_of_coefficients_are_refused(
    load: LoadScenario, monkeypatch: pytest.MonkeyPatch, sent: int
) -> None:
    honest = Step.of

    def other(plans: list[Plan]) -> Step:
        return honest([replace(plan, coefficients=(0.0,) * sent) for plan in plans])

    monkeypatch.setattr(Step, "of", other)
    with pytest.raises(RemoteProtocolError, match=f"{sent} coefficients of a step where 1 were"):
        runner.run(load("disclosure=none"))


def test_sums_of_the_largest_products_do_not_wrap() -> None:
    largest = np.full(2047, steps._LARGEST_PRODUCT)
    total = to_words(largest, steps._PRODUCT_BITS).sum(keepdims=True)
    assert to_reals(total, steps._PRODUCT_BITS).tolist() == [largest.sum()]
    assert (
        max(LONGEST_STEP * LONGEST_GRADIENT, 2 * LONGEST_GRADIENT * LONGEST_GRADIENT)
        < steps._LARGEST_PRODUCT
    )


def test_the_label_party_alone_plans_and_knows_the_noise_of_a_series(load: LoadScenario) -> None:
    for disclosure in ("none", "shared"):
        run = runner.run(load(f"disclosure={disclosure}", "epochs=2"))
        state = run.label_party.trained.state
        rows = len(run.label_party.trained.split.batches[0])
        (recursion,) = state.recursions
        expected = 3e-4 / np.sqrt(rows / 4) if disclosure == "shared" else 0.0
        assert recursion.noise == pytest.approx(expected)
        assert all(not half.state.recursions for half in run.feature_parties.values())


@dataclass
class Classes:
    """A half of a model with an output a class."""

    parameters: FloatArray
    bias: FloatArray | None  # at the label party
    penalty: float

    @property
    def l2(self) -> FloatArray:
        return np.full_like(self.parameters, self.penalty)

    def move(self, columns: IntArray, step: FloatArray) -> None:
        self.parameters = self.parameters.copy()
        self.parameters[columns] += step[: len(columns)]
        if self.bias is not None:
            self.bias = self.bias + step[-1]


def test_outputs_side_by_side_end_each_at_its_optimum(load: LoadScenario) -> None:
    """Three classes, a logistic model each, whose halves get their gradients in the clear: scikit-learn's, each."""
    scenario, n, l2 = load("disclosure=none", "training.tolerance=1e-9"), 400, 1e-3
    transport, draw = InProcessTransport(), np.random.default_rng(3)
    channels = connect(scenario, transport)
    rows, halves = dict[str, FixedPointMatrix](), dict[str, Classes]()
    for name, size in {"shop": 3, "bank": 4, "telco": 2}.items():
        scaled = np.rint(draw.normal(size=(n, size)) * 2.0**FRACTION_BITS).astype(np.int16)
        ones = sparse.csr_array((draw.random((n, 2)) < 0.3).astype(np.int8))
        rows[name] = FixedPointMatrix(scaled, ones, 0)
        start = draw.normal(0, 0.1, (size + 2, 3))
        halves[name] = Classes(start, np.zeros(3) if name == "shop" else None, l2)
    columns = np.hstack([dense(one) for one in rows.values()])
    chances = columns @ draw.normal(size=(len(columns.T), 3)) + draw.gumbel(size=(n, 3))
    truth = (chances == chances.max(axis=1, keepdims=True)).astype(float)
    turn, rounds = asyncio.Barrier(4), dict.fromkeys(halves, 0)
    models = {name: cast(LocalModel, half) for name, half in halves.items()}
    states = {name: TrainingState(model, model) for name, model in models.items()}

    def residuals() -> FloatArray:
        z = columns @ np.vstack([half.parameters for half in halves.values()])
        return np.asarray(expit(z + np.asarray(halves["shop"].bias)) - truth)

    async def move(name: str) -> None:
        own, state = np.arange(rows[name].n_columns), states[name]
        stepper = steps.Stepper.of(channels[name], scenario, state, [rows[name]], [own])
        while not stepper.converged:
            d = residuals()
            await turn.wait()
            await stepper.take(dense(rows[name]).T @ d / n, d.mean(axis=0))
            rounds[name] += 1
            await turn.wait()

    async def add_up() -> None:
        while not states["shop"].converged:
            await turn.wait()
            await steps.coordinate_step(channels["coordinator"], scenario, n_outputs=3)
            await turn.wait()

    roles = {name: move(name) for name in halves} | {"coordinator": add_up()}
    asyncio.run(transport.run(roles, {name: channel.ledger for name, channel in channels.items()}))
    assert len(set(rounds.values())) == 1
    assert rounds["shop"] < 25
    found = np.vstack([half.parameters for half in halves.values()])
    for number, labels in enumerate(truth.T):
        library = LogisticRegression(C=1 / (n * l2), tol=1e-10, solver="newton-cholesky")
        library.fit(columns, labels)
        np.testing.assert_allclose(found[:, number], library.coef_[0], atol=2e-3)
    sent = [one.size for one in channels["bank"].ledger.sent if one.kind == "ProductShare"]
    assert sent[2] - sent[1] == 3 * 2 * 8


def test_factors_and_batches_ask_for_another_optimizer(load_scenario: LoadScenario) -> None:
    with pytest.raises(SettingsError, match="moves a logistic model, with all rows in one batch"):
        load_scenario("optimizer=quasi-newton")
    assert not load_scenario().training.second_order


def test_what_parties_see_of_products(load: LoadScenario) -> None:
    """The coordinator uniform numbers, feature parties coefficients, the label party sums."""
    run: Run = runner.run(load("disclosure=open"), record_views=True)
    rounds = len(run.label_party.trained.history)
    kinds = {name: {type(m) for _, m in view} for name, view in run.views.items()}
    assert ProductShare in kinds["coordinator"]
    assert ProductSum not in kinds["bank"] | kinds["telco"] | kinds["coordinator"]
    plans = [m for _, m in run.views["bank"] if isinstance(m, Step)]
    assert len(plans) == rounds
    assert [plan.done for plan in plans] == [False] * (rounds - 1) + [True]
    shares = [m.values for _, m in run.views["coordinator"] if isinstance(m, ProductShare)]
    assert [len(one) for one in shares[:6]] == [1, 1, 2, 2, 4, 4]
    words = np.concatenate(shares)
    assert len(set(words.tolist())) == len(words)
    assert 0.35 < np.mean(words >= 1 << 63) < 0.65
