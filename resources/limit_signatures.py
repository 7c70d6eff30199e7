"""The signed limits as files: the documents, their signatures and the registered keys.

All that can loosen what an account may do is signed: config/risk.yaml, config/compliance.yaml with its limits on
positions and orders and its lists, and of config/universe.yaml what limits rest on, such as each instrument's sector.
Each has its own signatures beside it, by the same registered keys.

Belongs here: reading and writing these files, and whether the limits in force are those that were signed. Does not:
verifying (octopus/risk/signatures.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from octopus.core.errors import ConfigError
from octopus.risk.signatures import (
    NAMESPACE,
    SIGNATURES_NEEDED,
    Authority,
    Checked,
    SignatureError,
    armour,
    authority,
    check_all,
    is_of,
    read_signatures,
    read_signers,
    sign,
)

if TYPE_CHECKING:
    from resources.settings import Settings

SIGNERS_VARIABLE = "OCTOPUS_LIMIT_SIGNERS"


@dataclass(frozen=True)
class LimitsDocument:
    """A file of limits as it was read: what is verified is what is obeyed.

    Attributes:
        content: its exact bytes. signers: file of the registered keys.
        is_excerpt: the content is what `octopus limits text` prints of the file, whose other settings are free.
    """

    path: Path
    content: bytes
    signers: Path
    is_excerpt: bool = False

    @property
    def signatures(self) -> Path:
        """Where the signatures stand, armoured, one after the other."""
        return self.path.with_name(self.path.name + ".sig")


def limits_authority(settings: Settings, now: datetime) -> Authority:
    """Whether every file of the limits of ``settings`` is signed; keys and signatures are read anew each time."""
    found = [(document, _authority(document, settings, now)) for document in settings.limits_documents]
    files: dict[str, list[str]] = {}
    for document, one in found:
        if one.problem is not None:
            files.setdefault(one.problem, []).append(document.path.name)
    problem = "; ".join(f"{_listed(names)}: {problem}" for problem, names in files.items())
    signers = sorted({name for _, one in found for name in one.signers})
    return Authority(settings.is_live, problem or None, tuple(signers))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _authority(document: LimitsDocument, settings: Settings, now: datetime) -> Authority:
    """Whether one file of limits is signed, and is what is in force."""
    from resources.settings import says

    live = settings.is_live
    try:
        found = authority(
            document.content, _text(document.signatures), _text(document.signers),
            valid_until=settings.risk.valid_until, now=now, live=live,
        )  # fmt: skip
    except (OSError, UnicodeDecodeError) as error:
        return Authority(live, f"the signatures cannot be read: {error}")
    if found.problem is None and not says(document, settings):
        return replace(found, problem=f"the limits in force are not those of {document.path}")
    return found


def signatures_now(document: LimitsDocument, now: datetime) -> tuple[Checked, ...]:
    """Each signature of the file and what it is worth.

    Raises:
        SignatureError: keys or signatures cannot be read.
    """
    return check_all(document.content, _text(document.signatures), read_signers(_text(document.signers)), now)


def what_to_do(document: LimitsDocument) -> str:
    """What gets unsigned limits signed: a signature counts once its key is registered."""
    try:
        registered = read_signers(_text(document.signers))
    except (SignatureError, OSError, UnicodeDecodeError):
        return f"mend {document.signers}, which says whose keys count"
    names = {signer.name for signer in registered}
    sign = "each of two people runs `octopus limits sign --key FILE`"
    if len(names) >= SIGNATURES_NEEDED:
        return sign
    return (
        f"first register a key of each of {SIGNATURES_NEEDED} people in {document.signers}, one a line: their name and "
        f"their public key (NAME ssh-ed25519 AAAA…); then {sign}"
    )


def add_signatures(documents: Sequence[LimitsDocument], key_file: Path, now: datetime) -> tuple[Checked, ...]:
    """Sign each document with an Ed25519 key that has no passphrase; returns what each signature is worth.

    Signatures of other bytes, and an earlier one by the same key, make room.

    Raises:
        ConfigError: the key cannot be used; the message says how to sign instead.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _cannot_sign(documents, key_file, str(error)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _cannot_sign(documents, key_file, "it is no Ed25519 key")
    checked = []
    for document in documents:
        made = sign(document.content, key)
        document.signatures.write_text(_others(document, made) + made, encoding="ascii")
        checked.append(signatures_now(document, now)[-1])
    return tuple(checked)


def _cannot_sign(documents: Sequence[LimitsDocument], key_file: Path, why: str) -> ConfigError:
    command = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY"
    by_hand = "; ".join(
        f"octopus limits text | {command} >> {document.signatures}"
        if document.is_excerpt
        else f"{command} < {document.path} >> {document.signatures}"
        for document in documents
    )
    return ConfigError(
        where="octopus limits sign", field="--key", value=str(key_file),
        remedy=f"{why}; or use `{by_hand}`, which knows passphrases, agents and hardware keys",
    )  # fmt: skip


def _others(document: LimitsDocument, made: str) -> str:
    """The standing signatures of the document by other keys."""
    (mine,) = read_signatures(made)
    try:
        standing = read_signatures(_text(document.signatures))
    except SignatureError:
        return ""
    return "".join(armour(s.wire) for s in standing if s.key != mine.key and is_of(document.content, s))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
