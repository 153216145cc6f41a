"""A scenario: who takes part, with which data, under which settings. Read from TOML, checked at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from parties import files
from parties.dataset import PartyDataset
from protocol.errors import SettingsError
from protocol.settings import ProtocolSettings, Settings
from scenarios import consent
from scenarios.party import FunctionCall, PartySettings

COORDINATOR = "coordinator"


_SECRET = frozenset({"url", "arguments"})


S = TypeVar("S", bound=Settings)


class Scenario(ProtocolSettings):
    """A whole set-up; ``folder`` is where relative paths start.

    ``truth`` is for made-up data: it returns the true probability of a 1 in each row of the label party's table.
    """

    name: str
    title: str = ""
    truth: FunctionCall | None = None
    description: str = ""
    folder: Path = Path()
    parties: Annotated[list[PartySettings], Field(min_length=2)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [party.name for party in self.parties]
        if len(set(names)) < len(names) or COORDINATOR in names:
            raise ValueError(
                f"expected party names that differ from each other and '{COORDINATOR}'"
            )
        if sum(party.role == "label" for party in self.parties) != 1:
            raise ValueError("expected one party with role = 'label', the others with 'feature'")
        dealers = [party.name for party in self.feature_parties]
        if self.training.dealer not in (None, *dealers):
            raise ValueError(f"training.dealer: expected one of the feature parties {dealers}")
        known = set(self.label_party.columns_by_entity)
        strangers = {party.entity for party in self.feature_parties} - known
        if strangers:
            raise ValueError(f"{self.label_party.name} holds no ids of entity {sorted(strangers)}")
        return self

    @property
    def label_party(self) -> PartySettings:
        """The party with the outcome."""
        return next(party for party in self.parties if party.role == "label")

    @property
    def feature_parties(self) -> list[PartySettings]:
        """All others, in the file's order."""
        return [party for party in self.parties if party.role == "feature"]

    def dataset(self, party: PartySettings, like: PartyDataset | None = None) -> PartyDataset:
        """Return :meth:`PartySettings.dataset` of one of the parties, if it may have all that it names."""
        party.check_consent(self.folder)
        return party.dataset(self.folder, like)


def catalog() -> list[Scenario]:
    """Return the ready-made scenarios, by name."""
    folder = resources.files("scenarios") / "catalog"
    names = [Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return [load(name) for name in sorted(names)]


def load(
    source: str,
    changes: Sequence[str] = (),
    seed: int | None = None,
    data_path: str | None = None,
) -> Scenario:
    """Load a scenario by catalogue name or path, with ``key=value`` changes; raises SettingsError.

    ``data_path`` is handed to every party's function.
    """
    name, folder, data = _find(source)
    for change in changes:
        _apply(data, change)
    if seed is not None:
        data["seed"] = seed
    if data_path is not None:
        consent.allow([os.path.abspath(os.path.expanduser(data_path))])
        for party in _tables(data.get("parties")):
            if "function" in party:
                party.setdefault("arguments", {})["path"] = data_path
    return validated(Scenario, {"name": name, **data, "folder": folder}, source)


def validated(kind: type[S], data: dict[str, Any], source: str) -> S:
    """Return checked settings; raises SettingsError with a line for each problem, naming their ``source``."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explain(dict(problem), data, kind) for problem in error.errors()]
        raise SettingsError("\n".join(f"{source}: {line}" for line in lines)) from None


def read_toml(file: Path, source: str) -> dict[str, Any]:
    """Return what a TOML file says; raises SettingsError, naming it as ``source``."""
    try:
        return files.read_toml(file)
    except OSError as error:
        raise SettingsError(f"{source} cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{source} cannot be read; expected TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{source} is not valid TOML: {error}") from None


def _find(source: str) -> tuple[str, Path, dict[str, Any]]:
    """Return name and folder of a scenario, and what its file says."""
    bundled = Path(str(resources.files("scenarios"))) / "catalog" / f"{source}.toml"
    if "/" not in source and bundled.is_file():
        return source, Path(), read_toml(bundled, source)
    path = Path(source)
    if not path.is_file():
        raise SettingsError(
            f"there is no scenario '{source}': expected the path of a .toml file or a name that "
            "'colonnade scenarios' lists"
        )
    return path.stem, path.resolve().parent, read_toml(path, source)


def _apply(data: dict[str, Any], change: str) -> None:
    """Apply ``training.batch_size=64``, or ``batch_size=64`` where only one group has that name."""
    key, equals, text = change.partition("=")
    if not equals:
        raise SettingsError(f"--set {change}: expected key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *groups, last = _qualify(key.strip()).split(".")
    target: Any = data
    for group in groups:
        if isinstance(target, list):
            named = [party for party in _tables(target) if party.get("name") == group]
            if not named:
                raise SettingsError(f"--set {change}: there is no party '{group}'")
            target = named[0]
        else:
            target = target.setdefault(group, {})
    if not isinstance(target, dict):
        raise SettingsError(f"--set {change}: expected parties.NAME.SETTING=value")
    target[last] = value


def _tables(value: object) -> list[dict[str, Any]]:
    """Return those elements of a list that are tables, in a file that nobody has checked yet."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _qualify(key: str) -> str:
    """Return the full name of a setting given by its last part alone."""
    if "." in key or key in Scenario.model_fields:
        return key
    full = [name for name in _setting_names(Scenario) if name.endswith(f".{key}")]
    return full[0] if len(full) == 1 else key


def _setting_names(kind: type[BaseModel]) -> list[str]:
    """Return every setting that a file of this kind has outside its parties, as ``group.name``."""
    names = []
    for name, field in kind.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Settings):
            names += [f"{name}.{inner}" for inner in group.model_fields]
        elif name != "folder":
            names.append(name)
    return names


def _explain(problem: dict[str, Any], data: dict[str, Any], kind: type[BaseModel]) -> str:
    """Say one validation problem as a person would."""
    place = list(problem["loc"])
    if len(place) > 1 and place[0] == "parties":
        (party,) = _tables([data["parties"][place[1]]]) or [{}]
        place[1] = party.get("name", f"number {place[1] + 1}")
    key = ".".join(map(str, place))
    if problem["type"] == "extra_forbidden":
        known = _setting_names(kind)
        if kind is Scenario:
            known += [f"parties.{name}" for name in PartySettings.model_fields]
        last_of = {name: name.rpartition(".")[2] for name in known}
        misplaced = [name for name in known if last_of[name] == key]
        close = [
            *misplaced,
            *get_close_matches(key, known, n=1),
            *get_close_matches(key.rpartition(".")[2], last_of.values(), n=1),
        ]
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"there is no setting {key}{hint}"
    if problem["type"] == "missing":
        return f"the setting {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    # What may hold a password is not shown.
    hidden = problem["type"] == "value_error" or not _SECRET.isdisjoint(place)
    came = "" if hidden else f", got {problem['input']!r}"
    return f"{key + ': ' if key else ''}{message[0].lower()}{message[1:]}{came}"
