"""Signed limits: real keys, OpenSSH itself where it is there, and every way in which a signature does not count."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import octopus_pipelines.cli.limits as limits_command
from octopus.core.errors import ConfigError
from octopus.risk.signatures import Authority, SignatureError, authority, read_signatures, read_signers, sign
from resources.limit_signatures import add_signatures, limits_authority
from resources.settings import ROOT, Settings, load_settings
from tests import command_line

DOCUMENT = (ROOT / "config" / "risk.yaml").read_bytes()
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEYS = {name: Ed25519PrivateKey.generate() for name in ("ada", "grace", "eve")}
OPENSSH = shutil.which("ssh-keygen")
needs_openssh = pytest.mark.skipif(OPENSSH is None, reason="ssh-keygen is not installed")


def public(name: str) -> str:
    return KEYS[name].public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def registered(*names: str, options: str = "") -> str:
    return "# who may sign\n\n" + "".join(
        f"{name} {options + ' ' if options else ''}{public(name)}\n" for name in names
    )


def signed(*names: str, document: bytes = DOCUMENT) -> str:
    return "".join(sign(document, KEYS[name]) for name in names)


def judged(
    signatures: str, signers: str | None = None, document: bytes = DOCUMENT, now: datetime = NOW,
    valid_until: date = date(2026, 12, 31),
) -> Authority:  # fmt: skip
    keys = registered("ada", "grace") if signers is None else signers
    return authority(document, signatures, keys, valid_until=valid_until, now=now, live=True)


def test_two_names_make_the_limits_signed() -> None:
    assert judged(signed("ada", "grace")) == Authority(True, None, ("ada", "grace"))
    assert judged(signed("eve", "grace", "ada")).problem is None, "a stranger's signature does no harm"


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        ("", "nobody has signed, 2 names must sign"),
        (signed("ada"), "signed by ada alone, 2 names must sign"),
        (signed("ada", "ada"), "the same key of ada signed before"),
        (signed("ada", "eve"), "is not registered"),
        (signed("ada", "grace", document=DOCUMENT + b"\n"), "not of these bytes: the file changed"),
        (signed("ada", "grace")[:-40], "the signature file is cut off"),
        (signed("ada").replace("-----BEGIN SSH SIGNATURE-----\nU", "-----BEGIN SSH SIGNATURE-----\nV"), "SSHSIG"),
    ],
)
def test_less_than_two_signatures_is_none(signatures: str, words: str) -> None:
    found = judged(signatures)
    assert found.problem is not None
    assert words in found.problem


@given(place=st.integers(0, len(DOCUMENT) - 1), change=st.integers(1, 255))
@settings(max_examples=60)
def test_one_changed_byte_of_the_limits_ends_both_signatures(place: int, change: int) -> None:
    changed = bytearray(DOCUMENT)
    changed[place] ^= change
    assert judged(BOTH, document=bytes(changed)).signers == ()


BOTH = signed("ada", "grace")
ARMOURED = [line for line in BOTH.splitlines() if not line.startswith("-----")]


@given(place=st.integers(0, 200), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_one_changed_bit_of_a_signature_ends_it(place: int, bit: int) -> None:
    blob = bytearray(read_signatures(BOTH)[0].wire)
    blob[place % len(blob)] ^= 1 << bit
    first = "-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob).decode() + "\n-----END SSH SIGNATURE-----\n"
    found = judged(first + signed("grace"))
    assert found.problem is not None
    assert "ada" not in found.signers


def test_signatures_and_keys_expire() -> None:
    last_day = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    assert judged(BOTH, now=last_day).problem is None
    expired = judged(BOTH, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert expired.problem == "the signatures expired on 2026-12-31: review the limits and sign them again"
    window = 'namespaces="git,octopus-limits",valid-after="20260101",valid-before="20260701"'
    keys = registered("ada") + registered("grace", options=window)
    assert judged(BOTH, keys).problem is None
    assert "the key of grace expired" in str(judged(BOTH, keys, now=datetime(2026, 7, 1, tzinfo=UTC)).problem)
    assert "counts only from 2026-01-01" in str(judged(BOTH, keys, now=datetime(2025, 12, 31, tzinfo=UTC)).problem)


def test_two_keys_of_one_person_are_one_signature() -> None:
    both = f"ada {public('ada')}\nada {public('grace')}\n"
    assert "another key of ada signed before: two people must sign" in str(judged(BOTH, both).problem)


def test_a_key_registered_for_something_else_is_not_registered_here() -> None:
    keys = registered("ada") + registered("grace", options='namespaces="git"')
    assert "is not registered" in str(judged(BOTH, keys).problem)
    assert judged("", "# nobody\n").problem == "no key is registered in limit_signers"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ada ssh-dss AAAA", "the key type is 'ssh-dss'"),
        ("ada ssh-ed25519", "the key type is"),
        ("ada ssh-ed25519 !!!!", "not base64"),
        ("ada ssh-ed25519 AAAA", "cut off"),
        ("* KEY", "one plain name"),
        ("ada,bob KEY", "one plain name"),
        ("ada cert-authority KEY", "cert-authority"),
        ('ada valid-before="soon" KEY', "no time"),
        ("ada ssh-rsa BLOB", "not of the type"),
    ],
)
def test_a_key_that_cannot_be_read_is_named_with_its_line(line: str, words: str) -> None:
    # The keys are new in each process; the names of the cases are not.
    line = line.replace("KEY", public("ada")).replace("BLOB", public("ada").split()[1])
    with pytest.raises(SignatureError, match="line 2 of the registered keys") as caught:
        read_signers("# first\n" + line)
    assert words in str(caught.value)
    assert judged(BOTH, line).problem is not None


@given(text=st.text(max_size=300), blob=st.binary(max_size=300))
@settings(max_examples=150)
def test_no_input_makes_anything_but_a_problem(text: str, blob: bytes) -> None:
    armour = "-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(b"SSHSIG" + blob).decode()
    for signatures in (text, armour + "\n-----END SSH SIGNATURE-----\n"):
        for keys in (text, registered("ada", "grace")):
            assert judged(signatures, keys).problem is not None


# OpenSSH itself ------------------------------------------------------------------------------------------------------


@needs_openssh
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_signature_by_openssh_counts(tmp_path: Path, kind: str) -> None:
    key = tmp_path / "key"
    subprocess.run([OPENSSH, "-q", "-t", kind, "-N", "", "-C", "bob", "-f", str(key)], check=True)
    made = subprocess.run(
        [OPENSSH, "-Y", "sign", "-n", "octopus-limits", "-f", str(key)], input=DOCUMENT, capture_output=True, check=True
    ).stdout.decode()
    keys = registered("ada") + f"bob {key.with_suffix('.pub').read_text()}"
    assert judged(made + signed("ada"), keys) == Authority(True, None, ("ada", "bob"))
    assert judged(made + signed("ada"), keys, document=DOCUMENT + b" ").signers == ()
    other = subprocess.run(
        [OPENSSH, "-Y", "sign", "-n", "git", "-f", str(key)], input=DOCUMENT, capture_output=True, check=True
    ).stdout.decode()
    assert "was made for b'git'" in str(judged(other + signed("ada"), keys).problem)


@needs_openssh
def test_openssh_accepts_our_signature_and_our_registered_keys(tmp_path: Path) -> None:
    (tmp_path / "signers").write_text(registered("ada", options='namespaces="octopus-limits"'))
    (tmp_path / "sig").write_text(signed("ada"))
    command = [
        OPENSSH, "-Y", "verify", "-n", "octopus-limits", "-I", "ada", "-f", str(tmp_path / "signers"), "-s",
        str(tmp_path / "sig"),
    ]  # fmt: skip
    assert subprocess.run(command, input=DOCUMENT, capture_output=True, check=False).returncode == 0
    assert subprocess.run(command, input=DOCUMENT + b"x", capture_output=True, check=False).returncode != 0


# Files and the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder with a config of its own, ada and grace registered, and all private keys."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config" / "limit_signers").write_text(registered("ada", "grace"))
    for name, key in KEYS.items():
        (tmp_path / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return tmp_path


def loaded(house: Path) -> Settings:
    return load_settings({"OCTOPUS_CONFIG": str(house / "config"), "OCTOPUS_HOME": str(house / "home")})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("risk.yaml", b"gross_max: 1.02", b"gross_max: 9.02"),
        ("compliance.yaml", b"max_shares: 100000", b"max_shares: 1e9"),
    ],
)
def test_what_is_verified_is_what_is_obeyed(house: Path, file: str, old: bytes, new: bytes) -> None:
    current = loaded(house)
    assert str(limits_authority(current, NOW).problem).startswith(
        "risk.yaml, compliance.yaml and universe.yaml: nobody has signed"
    )
    for name in ("ada", "ada", "grace"):
        add_signatures(current.limits_documents, house / name, NOW)
    assert limits_authority(current, NOW) == Authority(False, None, ("ada", "grace"))
    other = {
        "risk": current.risk.model_copy(update={"gross_max": 9.0}),
        "compliance": current.compliance.model_copy(update={"version": "mine"}),
    }
    kind = file.removesuffix(".yaml")
    relaxed = replace(current, **{kind: other[kind]})
    assert f"{file}: the limits in force are not those of" in str(limits_authority(relaxed, NOW).problem)
    limits = house / "config" / file
    assert old in limits.read_bytes()
    limits.write_bytes(limits.read_bytes().replace(old, new))
    problem = str(limits_authority(loaded(house), NOW).problem)
    assert problem.startswith(f"{file}: no signature counts")
    assert "the file changed after it was signed" in problem
    assert limits_authority(current, NOW).problem is None, "a run keeps the limits that it read"
    add_signatures(loaded(house).limits_documents, house / "ada", NOW)
    assert f"{file}: signed by ada alone" in str(limits_authority(loaded(house), NOW).problem)
    assert len(read_signatures((house / "config" / f"{file}.sig").read_text())) == 1, "the old ones made room"


RESTS_ON = [
    ("    AAPL: technology\n", "    AAPL: energy\n"),
    ("    AAPL: technology\n", ""),
    ("rates: {}", "rates: {EUR: EURUSD=X}"),
    ("live_accounts: []", 'live_accounts: ["U1"]'),
    ("release: none", "release: live"),
    ("cash_tolerance: 0.01", "cash_tolerance: 10000"),
    ("share_tolerance: 0 ", "share_tolerance: 5 "),
    ("    halt: true", "    halt: false"),
]
FREE = [
    ("refetch_sessions: 10", "refetch_sessions: 20"),
    ("execution_sensor: false", "execution_sensor: true"),
    ("    AAPL: technology\n    AMD: technology\n", "    AMD: technology  # chips\n    AAPL: technology\n"),
]


def test_what_limits_rest_on_in_the_universe_is_signed_and_the_rest_of_the_file_is_free(house: Path) -> None:
    current, file = loaded(house), house / "config" / "universe.yaml"
    for name in ("ada", "grace"):
        add_signatures(current.limits_documents, house / name, NOW)
    text = file.read_text()
    for old, new in [*RESTS_ON, *FREE]:
        assert old in text
        file.write_text(text.replace(old, new))
        problem = limits_authority(loaded(house), NOW).problem
        assert (problem is None) is ((old, new) in FREE), (new, problem)
        assert problem is None or problem.startswith("universe.yaml: no signature counts"), problem


def test_what_is_signed_of_the_universe_can_be_read(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = loaded(house)
    monkeypatch.setattr(limits_command, "settings", lambda: current)
    printed = CliRunner().invoke(limits_command.limits, ["text"]).output
    assert printed.encode() == current.basis_document.content
    assert json.loads(printed)["universe"]["sectors"]["AAPL"] == "technology"


def test_signatures_of_one_file_are_none_of_the_other(house: Path) -> None:
    current = loaded(house)
    for name in ("ada", "grace"):
        add_signatures([current.limits_document], house / name, NOW)
    assert str(limits_authority(current, NOW).problem).startswith(
        "compliance.yaml and universe.yaml: nobody has signed"
    )
    shutil.copy(current.limits_document.signatures, current.policy_document.signatures)
    assert "compliance.yaml: no signature counts" in str(limits_authority(current, NOW).problem)


def test_a_key_that_cannot_sign_says_how_to(house: Path) -> None:
    documents = loaded(house).limits_documents
    for key in (house / "nothing", house / "other", house / "config" / "risk.yaml"):
        with pytest.raises(
            ConfigError,
            match=r"octopus-limits.*risk\.yaml\.sig; .*nce\.yaml\.sig; octopus limits text \| .*universe\.yaml\.sig",
        ):
            add_signatures(documents, key, NOW)


def test_the_command_line_signs_and_verifies(house: Path) -> None:
    def octopus(*arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(house / "config")
        return command_line.octopus(house / "home", "limits", *arguments, OCTOPUS_CONFIG=config)

    refused = octopus("verify")
    assert refused.returncode == 1
    assert (
        "limits unsigned: paper only: risk.yaml, compliance.yaml and universe.yaml: nobody has signed" in refused.stderr
    )
    assert "each of two people runs `octopus limits sign" in refused.stderr
    keys = house / "config" / "limit_signers"
    both = keys.read_text()
    for alone in ("", registered("ada")):
        keys.write_text(alone)
        told = octopus("verify").stderr
        assert f"first register a key of each of 2 people in {keys}" in told
        assert "NAME ssh-ed25519" in told
    keys.write_text("ada@example.org no-key")
    assert f"mend {keys}" in octopus("verify").stderr
    keys.write_text(both)
    first = octopus("sign", "--key", str(house / "ada"))
    assert "not yet signed: risk.yaml, compliance.yaml and universe.yaml: signed by ada alone" in first.stdout, (
        first.stderr
    )
    second = octopus("sign", "--key", str(house / "grace"))
    assert "the limits are signed" in second.stdout, second.stderr
    found = octopus("verify", "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout) == {"signed": True, "signers": ["ada", "grace"], "problem": None}


def test_registered_keys_may_stand_where_limits_are_not_edited(house: Path) -> None:
    current = loaded(house)
    for name in ("ada", "grace"):
        add_signatures(current.limits_documents, house / name, NOW)
    assert limits_authority(current, NOW).problem is None
    (house / "elsewhere").write_text(registered("ada", "eve"))
    elsewhere = load_settings(
        {"OCTOPUS_CONFIG": str(house / "config"), "OCTOPUS_LIMIT_SIGNERS": str(house / "elsewhere")}
    )
    assert "signed by ada alone" in str(limits_authority(elsewhere, NOW).problem)
    (house / "elsewhere").unlink()
    assert "no key is registered" in str(limits_authority(elsewhere, NOW).problem)
