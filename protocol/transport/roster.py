"""Who takes part in a run, in which role, and on which entities each feature party joins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.messages.message import Role


@dataclass(frozen=True)
class Member:
    """One entry of the roster. ``seal_key`` is the raw X25519 public key, 32 bytes, of a data party.

    A feature party joins on one ``entity`` type; samples whose entity it does not know are dropped if it is
    ``required``, else it contributes nothing to them.
    """

    name: str
    role: Role
    seal_key: bytes
    entity: str | None = None
    required: bool = True


@dataclass(frozen=True)
class Roster:
    """Who takes part in one run; everyone holds the same one. ``run`` is 16 fresh random bytes."""

    run: bytes
    members: Mapping[str, Member]

    @property
    def coordinator(self) -> str:
        """The coordinator's name."""
        return self.having(Role.COORDINATOR)[0]

    @property
    def label(self) -> str:
        """The label party's name."""
        return self.having(Role.LABEL)[0]

    @property
    def features(self) -> list[str]:
        """The feature parties' names, in the roster's order."""
        return self.having(Role.FEATURE)

    @property
    def n_data_parties(self) -> int:
        """How many parties have columns."""
        return 1 + len(self.features)

    def having(self, role: Role) -> list[str]:
        """Return the names of everyone in a role."""
        return [member.name for member in self.members.values() if member.role is role]

    def holding(self, entity: str) -> list[str]:
        """Return the feature parties that join on an entity type."""
        return [name for name in self.features if self.members[name].entity == entity]

    def groups(self) -> list[tuple[str, list[str]]]:
        """Return which feature parties are aligned together: (entity type, names), the same list for everyone.

        All that are required share one intersection for each entity type; any other has its own with the label party.
        """
        groups: list[tuple[str, list[str]]] = []
        for entity in sorted({self.members[name].entity or "" for name in self.features}):
            holding = self.holding(entity)
            required = [name for name in holding if self.members[name].required]
            groups += [(entity, required)] if required else []
            groups += [(entity, [name]) for name in holding if name not in required]
        return groups
