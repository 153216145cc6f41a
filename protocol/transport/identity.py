"""Who a party is on the network: its key file, its public file, and the roster that lists everyone.

``NAME.key.toml`` holds two private keys and never leaves its owner; ``NAME.public.toml`` is what the
others need. The seal key (X25519) closes what data parties send each other, the TLS key (ECDSA
P-256) proves who is at the other end of a connection. Certificates are self-signed: a party is who
the roster says because its certificate is the very one listed there, by whatever name.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID
from pydantic import Field, ValidationError, field_validator, model_validator

from parties import files
from protocol.errors import SettingsError
from protocol.messages.message import Role
from protocol.settings import ProtocolSettings, Settings
from protocol.transport.roster import Member, Roster

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# Every certificate is good for this host name: on which machine a party runs is its own business. TLS finds
# certificates by their subject, so each has one of its own.
HOST = "colonnade"
_VALID_FOR = timedelta(days=3650)
# What each machine may set for itself; everything else must be the same everywhere.
_OF_THE_MACHINE = {"encryption": {"n_jobs", "memory_budget"}}

F = TypeVar("F", bound=Settings)


class PublicIdentity(Settings):
    """What others need to know of a party: its public seal key in hexadecimal and its certificate in PEM."""

    name: Name
    seal_key: Key
    certificate: str

    @field_validator("certificate")
    @classmethod
    def _check(cls, certificate: str) -> str:
        try:
            x509.load_pem_x509_certificate(certificate.encode())
        except ValueError:
            raise ValueError("expected a certificate in PEM") from None
        return certificate

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hexadecimal."""
        return fingerprint(self.certificate.encode()).hex()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``NAME.public.toml``; raises SettingsError."""
        return _read(cls, path, "what 'colonnade keygen' wrote as NAME.public.toml")


class Identity(Settings):
    """A party's own keys, the seal key in hexadecimal, the TLS key in PEM. Its text form never shows them.

    Under ``order_secret``, 32 bytes in hexadecimal, a label party draws the orders of its rows and any data party its
    first weights (parties/order.py); a file of an older version has none.
    """

    name: Name
    seal_key: Annotated[Key, Field(repr=False)]
    tls_key: Annotated[str, Field(repr=False)]
    order_secret: Annotated[Key | None, Field(repr=False)] = None
    certificate: str

    @classmethod
    def generate(cls, name: str) -> Self:
        """Draw fresh keys; raises SettingsError for a bad name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(16))])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))  # clocks differ
            .not_valid_after(now + _VALID_FOR)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        values = {
            "name": name,
            "seal_key": X25519PrivateKey.generate().private_bytes_raw().hex(),
            "tls_key": key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
            "order_secret": secrets.token_hex(32),
            "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        }
        try:
            return cls.model_validate(values)
        except ValidationError:
            raise SettingsError(
                f"'{name}' is no name for a party: expected at most 64 of a-z, 0-9, - and _"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``NAME.key.toml``; raises SettingsError, also if others on this machine can read it."""
        identity = _read(cls, path, "what 'colonnade keygen' wrote as NAME.key.toml")
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"{path} can be read by others; expected 'chmod 600 {path}'")
        return identity

    @property
    def sealing(self) -> X25519PrivateKey:
        """The private seal key."""
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(self.seal_key))

    @property
    def public(self) -> PublicIdentity:
        """What others may know."""
        public_key = self.sealing.public_key().public_bytes_raw().hex()
        return PublicIdentity(name=self.name, seal_key=public_key, certificate=self.certificate)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the private and the public file; raises SettingsError if either exists or cannot be written."""
        private, public = (folder / f"{self.name}.{kind}.toml" for kind in ("key", "public"))
        for path in (private, public):
            if path.exists():
                raise _exists(path)
        write_new(
            private,
            f"# Private. It never leaves {self.name}.\n{to_toml(self.model_dump())}",
            mode=files.PRIVATE,
        )
        write_new(public, to_toml(self.public.model_dump()))
        return private, public


class RosterEntry(PublicIdentity):
    """A party as everyone knows it. A feature party joins on ``entity``; ``required`` as in ``Member``."""

    role: Literal["coordinator", "label", "feature"]
    entity: str | None = None
    required: bool = True

    @model_validator(mode="after")
    def _check_entity(self) -> Self:
        if (self.role == "feature") != (self.entity is not None):
            raise ValueError(f"{self.name}: expected entity at feature parties, and nowhere else")
        if self.role != "feature" and not self.required:
            raise ValueError(f"{self.name}: only a feature party can be one that is not required")
        return self


class RosterFile(Settings):
    """Everyone who takes part, and where the coordinator listens (``host:port``)."""

    address: Annotated[str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$")]
    members: list[RosterEntry]

    @model_validator(mode="after")
    def _check(self) -> Self:
        roles = [member.role for member in self.members]
        if roles.count("coordinator") != 1 or roles.count("label") != 1 or "feature" not in roles:
            raise ValueError("expected one coordinator, one label party and one or more feature")
        distinct: dict[str, list[object]] = {
            "name": [member.name for member in self.members],
            "seal key": [member.seal_key for member in self.members],
            "certificate": [fingerprint(member.certificate.encode()) for member in self.members],
            "certificate subject": [_subject(member.certificate) for member in self.members],
        }
        for kind, values in distinct.items():
            if len(set(values)) < len(values):
                raise ValueError(f"two parties have the same {kind}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a roster; raises SettingsError."""
        return _read(cls, path, "what 'colonnade roster' wrote")

    def to_toml(self) -> str:
        """Return the file's text."""
        members = "".join(
            f"\n[[members]]\n{to_toml(member.model_dump())}" for member in self.members
        )
        return f'address = "{self.address}"\n{members}'

    @property
    def entries(self) -> Mapping[str, RosterEntry]:
        """Everyone, by name."""
        return {member.name: member for member in self.members}

    @property
    def coordinator(self) -> RosterEntry:
        """The coordinator."""
        return next(member for member in self.members if member.role == "coordinator")

    def for_run(self, run: bytes) -> Roster:
        """Return the roster of one run, known by its 16 random bytes."""
        return Roster(
            run,
            {
                member.name: Member(
                    member.name,
                    Role(member.role),
                    bytes.fromhex(member.seal_key),
                    member.entity,
                    member.required,
                )
                for member in self.members
            },
        )

    def check_own(self, identity: Identity) -> RosterEntry:
        """Return one's own entry; raises SettingsError if it lists other keys, or none."""
        entry = self.entries.get(identity.name)
        if entry is None:
            raise SettingsError(f"the roster does not list {identity.name}; add its public file")
        if (entry.seal_key, entry.certificate) != (
            identity.public.seal_key,
            identity.certificate,
        ):
            raise SettingsError(
                f"the roster lists other keys for {identity.name} than its key file holds; "
                "assemble the roster again from the present public files"
            )
        return entry

    def agreement(self, settings: ProtocolSettings, *, resume: bool = False) -> bytes:
        """Return the digest (SHA-256) of all that everyone must have in common, whether to resume included."""
        agreed = settings.model_dump(
            mode="json", include=set(ProtocolSettings.model_fields), exclude=_OF_THE_MACHINE
        )
        members = sorted((member.model_dump() for member in self.members), key=lambda m: m["name"])
        text = json.dumps([agreed, members, resume], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()


def fingerprint(certificate: bytes) -> bytes:
    """Return the SHA-256 of a PEM certificate's contents; raises ValueError if it is none."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())


def _subject(certificate: str) -> x509.Name:
    return x509.load_pem_x509_certificate(certificate.encode()).subject


def write_new(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file that does not exist yet, whole or not at all; raises SettingsError if it does or cannot be."""
    try:
        files.write(path, text.encode(), mode=mode, replace=False)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None


def _exists(path: Path) -> SettingsError:
    return SettingsError(f"{path} exists; it is not overwritten: move it away first")


def _read(kind: type[F], path: Path, expected: str) -> F:
    try:
        return kind.model_validate(files.read_toml(path))
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{path} cannot be read; expected {expected}") from None
    except tomllib.TOMLDecodeError:  # its message may quote a key
        raise SettingsError(f"{path} is not valid TOML; expected {expected}") from None
    except ValidationError as problems:
        problem = problems.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{path}: {place + ': ' if place else ''}{said}") from None


def to_toml(values: Mapping[str, Any]) -> str:
    """Write values as TOML, leaving out None; what JSON and TOML write alike is left to JSON."""
    return "".join(
        f"{key} = {_literal(value)}\n" for key, value in values.items() if value is not None
    )


def _literal(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = (
            f"{json.dumps(key)} = {_literal(one)}" for key, one in value.items() if one is not None
        )
        return f"{{ {', '.join(inner)} }}"
    if isinstance(value, str) and "\n" in value:
        return f"'''\n{value}'''"
    return json.dumps(value, ensure_ascii=False)
