from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocol.settings import EncryptionSettings, ProtocolSettings, TrainingSettings


def test_the_safe_path_is_the_default() -> None:
    settings = ProtocolSettings()
    assert settings.encryption.key_bits >= 2048
    assert not settings.encryption.insecure_key
    assert settings.training.guard == "strict"
    assert settings.training.guard_ratio == 8
    assert settings.training.min_support == 3
    assert settings.training.disclosure != "none"


def test_settings_are_frozen_and_strict() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ProtocolSettings().seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra_forbidden"):
        TrainingSettings.model_validate({"lerning_rate": 0.1})
    with pytest.raises(ValidationError, match="int_type"):
        EncryptionSettings.model_validate({"key_bits": "2048"})


@pytest.mark.parametrize(
    "impossible",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"epochs": 0},
        {"batch_size": 0},
        {"l2": -1.0},
        {"momentum": 1.0},
        {"optimizer": "newton"},
        {"disclosure": "closed"},
    ],
)
def test_impossible_values_are_refused(impossible: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingSettings.model_validate(impossible)
