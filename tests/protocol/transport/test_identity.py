from __future__ import annotations

import stat
from pathlib import Path

import pytest
from star import Star

from protocol.errors import SettingsError
from protocol.settings import EncryptionSettings, ProtocolSettings, TrainingSettings
from protocol.transport.identity import Identity, PublicIdentity, RosterFile, fingerprint, write_new


@pytest.fixture(scope="module")
def star() -> Star:
    return Star()


def test_keys_come_back_from_their_files(tmp_path: Path) -> None:
    identity = Identity.generate("bank")
    private, public = identity.write(tmp_path)
    assert Identity.read(private) == identity
    assert PublicIdentity.read(public) == identity.public
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank.key.toml", "bank.public.toml"]


def test_the_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    identity = Identity.generate("bank")
    private, public = identity.write(tmp_path)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    for secret in (identity.seal_key, identity.tls_key.splitlines()[1]):
        assert secret in private.read_text(encoding="utf-8")
        assert secret not in public.read_text(encoding="utf-8")
        assert secret not in repr(identity)
    private.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        Identity.read(private)


def test_keys_are_not_overwritten(tmp_path: Path) -> None:
    Identity.generate("bank").write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SettingsError, match="not overwritten"):
        Identity.generate("bank").write(tmp_path)
    (tmp_path / "bank.key.toml").unlink()
    with pytest.raises(SettingsError, match=r"bank\.public\.toml exists"):
        Identity.generate("bank").write(tmp_path)
    with pytest.raises(SettingsError, match="not overwritten"):
        write_new(tmp_path / "bank.public.toml", "")
    assert {path: before[path] for path in tmp_path.iterdir()} == {
        path: path.read_bytes() for path in tmp_path.iterdir()
    }


@pytest.mark.parametrize("name", ["", "Bank", "a b", "../bank", "x" * 65])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"no name|at most 64"):
        Identity.generate(name)


def test_a_roster_comes_back_from_its_file(star: Star, tmp_path: Path) -> None:
    write_new(tmp_path / "roster.toml", star.roster.to_toml())
    again = RosterFile.read(tmp_path / "roster.toml")
    assert again == star.roster
    roster = again.for_run(bytes(16))
    assert (roster.coordinator, roster.label, roster.features) == (
        "coordinator",
        "shop",
        ["bank", "telco"],
    )
    assert again.check_own(star.identities["bank"]).entity == "user"


BAD_ROSTERS = {
    "no coordinator": (('role = "coordinator"', 'role = "label"'), "one coordinator"),
    "a role nobody has": (('role = "label"', 'role = "guest"'), "members.1.role"),
    "no address": (('address = "127', 'address = "some where 127'), "address"),
    "one name twice": (('name = "telco"', 'name = "bank"'), "two parties have the same name"),
    "a bad certificate": (("BEGIN CERT", "BEGIN BERT"), "expected a certificate in PEM"),
    "no entity": (('entity = "user"\n', ""), "expected entity at feature parties"),
    "not TOML": (("[[members]]", "[[members"), "not valid TOML"),
    "an unknown entry": (("required = true", "requires = true"), "members.0.requires"),
}


@pytest.mark.parametrize("case", BAD_ROSTERS)
def test_a_bad_roster_is_one_clear_line(case: str, star: Star, tmp_path: Path) -> None:
    (before, after), words = BAD_ROSTERS[case]
    text = star.roster.to_toml()
    assert before in text
    (tmp_path / "roster.toml").write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(SettingsError, match=words) as error:
        RosterFile.read(tmp_path / "roster.toml")
    assert "\n" not in str(error.value)
    assert "MII" not in str(error.value)


def test_what_is_agreed_is_settings_and_members_but_not_the_machine(star: Star) -> None:
    agreed = star.roster.agreement(ProtocolSettings())
    here = ProtocolSettings(encryption=EncryptionSettings(n_jobs=3, memory_budget=99))
    assert star.roster.agreement(here) == agreed
    assert star.roster.model_copy(update={"address": "elsewhere:1"}).agreement(here) == agreed
    other = ProtocolSettings(training=TrainingSettings(learning_rate=0.5))
    assert star.roster.agreement(other) != agreed
    assert star.roster.agreement(here, resume=True) != agreed
    assert Star().roster.agreement(here) != agreed


def test_certificates_are_told_apart(star: Star) -> None:
    prints = {fingerprint(identity.certificate.encode()) for identity in star.identities.values()}
    assert len(prints) == 4
