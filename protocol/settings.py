"""What all parties agree on before they talk. Public: a setting says nothing about anyone's data."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from parties.model import LOGISTIC, Link, Optimizer, OptimizerName

AlignmentMethod = Literal["keyed-hash", "ecdh"]
Disclosure = Literal["shared", "open", "none"]
Guard = Literal["strict", "warn"]
SplitKind = Literal["random", "last", "user-last", "cold-users"]
Engine = Literal["colonnade", "phe"]
ModelName = Literal["logistic", "factorization-machine"]
LINKS: dict[ModelName, Link] = {"logistic": LOGISTIC, "factorization-machine": LOGISTIC}
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=0.5, le=1024)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Settings(BaseModel):
    """A group of settings: frozen, and an unknown name is an error rather than a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EncryptionSettings(Settings):
    """The Paillier key (``key_bits`` is the size of n), the numbers it carries, and the machine's share in it.

    ``n_jobs`` is joblib's: cores to use, -1 for all. ``memory_budget`` bounds the working memory of a matrix product,
    in megabytes. ``engine = "phe"`` computes as phe does, many times slower: the baseline of cost studies.
    """

    key_bits: int = 2048
    insecure_key: bool = False
    engine: Engine = "colonnade"
    residual_bits: Annotated[int, Field(ge=16, le=24)] = 20
    n_jobs: int = -1
    memory_budget: Annotated[int, Field(ge=1)] = 256


class AlignmentSettings(Settings):
    """How shared entities are found: ``keyed-hash``, or ``ecdh``, which is slower and withstands more.

    ``pad_to`` fills every party's list up with random ids, so that its size is not disclosed; not by default.
    """

    method: AlignmentMethod = "keyed-hash"
    pad_to: Annotated[int, Field(ge=1)] | None = None


class SplitSettings(Settings):
    """Which share of the label party's usable rows is held out, and how it is chosen.

    ``random`` rows, the ``last`` rows in time, each user's last rows (``user-last``), or all rows of ``cold-users``.
    """

    kind: SplitKind = "random"
    validation: Fraction = 0.15
    test: Fraction = 0.2


class NegativeSettings(Settings):
    """Implicit feedback: items a user has not met, drawn as examples of what it does not like.

    ``per_positive`` for each positive training row, with a probability that grows with an item's popularity to the
    power of ``popularity``; none by default.
    """

    per_positive: Annotated[int, Field(ge=0, le=100)] = 0
    popularity: Annotated[float, Field(ge=0, le=2)] = 0.75


class RankingSettings(Settings):
    """Lists of ``k`` items for each user, judged after training; none by default.

    Ranked is the full catalogue without what the user met in training, or with ``candidates = "test"`` the items of
    the user's test rows only.
    """

    k: Annotated[int, Field(ge=0)] = 0
    candidates: Literal["all", "test"] = "all"


class ScoringSettings(Settings):
    """How many joint logits the label party may learn in a run after training; more are refused by every feature party.

    Over a few rows about one entity, that differ in its own columns, it can solve for what the others contributed.
    """

    limit: Annotated[int, Field(ge=0)] | None = None


class TrainingSettings(Settings):
    """The joint optimisation.

    ``l2`` weighs columns, ``l2_ids`` one-hot ids, ``l2_factors`` all factors. ``logit_bound`` and ``latent_bound``
    are the declared sizes of what one party contributes to a logit: its own score, and the length of its latent sums;
    larger ones are clipped. ``optimizer`` is "quasi-newton" by default for logistic models: steps of second order,
    all rows in one batch, until the loss would fall by less than ``tolerance``. "adam" and "sgd" take batches of
    ``batch_size`` rows or more, by default 256: an epoch has as many equal ones as fit, the same each time; a
    ``batch_size`` asks for Adam, unless an optimizer is named. ``patience`` is the epochs without a better validation
    loss after which they stop. ``dealer`` names the feature party that deals randomness under disclosure ``shared``,
    by default the first one.
    """

    model: ModelName = "logistic"
    factors: Annotated[int, Field(ge=1, le=256)] = 4
    disclosure: Disclosure = "shared"
    dealer: str | None = None
    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] | None = None
    optimizer: OptimizerName = "auto"
    learning_rate: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    l2: NotNegative = 1e-3
    l2_ids: NotNegative = 1e-3
    l2_factors: NotNegative = 1e-3
    logit_bound: Bound = 16.0
    latent_bound: Bound = 4.0
    patience: Annotated[int, Field(ge=1)] = 5
    tolerance: Positive = 1e-6
    guard: Guard = "strict"
    guard_ratio: Annotated[int, Field(ge=1)] = 8
    min_support: Annotated[int, Field(ge=1)] = 3

    @property
    def n_factors(self) -> int:
        """The factors of the model: none if it is logistic."""
        return self.factors if self.model == "factorization-machine" else 0

    @property
    def link(self) -> Link:
        """What turns the model's logits into predictions."""
        return LINKS[self.model]

    @property
    def second_order(self) -> bool:
        """Whether steps are of second order, in full batches."""
        chosen = self.model == "logistic" and self.batch_size is None
        return self.optimizer == "quasi-newton" or (self.optimizer == "auto" and chosen)

    def rows_of_batch(self, rows: int) -> int:
        """Return the least rows of a batch, of so many in all."""
        return rows if self.second_order else min(rows, self.batch_size or 256)

    @model_validator(mode="after")
    def _check_optimizer(self) -> Self:
        if self.optimizer == "quasi-newton" and (self.model != "logistic" or self.batch_size):
            raise ValueError(
                "optimizer = 'quasi-newton' moves a logistic model, with all rows in one batch; leave batch_size out, "
                "or use 'adam'"
            )
        return self

    def new_optimizer(self) -> Optimizer:
        """Return a fresh optimizer as these settings name it."""
        name: Literal["adam", "sgd"] = "sgd" if self.optimizer == "sgd" else "adam"
        return Optimizer(name, self.learning_rate, self.momentum)


class ProtocolSettings(Settings):
    """Everything the conversation depends on. ``seed`` makes the modelling reproducible; it protects nothing."""

    seed: Annotated[int, Field(ge=0)] = 0
    alignment: AlignmentSettings = AlignmentSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    split: SplitSettings = SplitSettings()
    negatives: NegativeSettings = NegativeSettings()
    training: TrainingSettings = TrainingSettings()
    ranking: RankingSettings = RankingSettings()
    scoring: ScoringSettings = ScoringSettings()
