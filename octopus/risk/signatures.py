"""Two signatures on the limits: the formats of OpenSSH (`ssh-keygen -Y sign`), read and verified.

Belongs here: parsing registered keys and signatures, verifying them, and what follows for the limits. Does not: reading
files (resources/limit_signatures.py).

A limit change needs two people: the exact bytes of config/risk.yaml are signed by two registered keys of two different
names. Formats: PROTOCOL.sshsig of OpenSSH for signatures (several armoured ones in one file), ALLOWED SIGNERS of
ssh-keygen(1) for the registered keys, so that `ssh-keygen -Y` signs and verifies the same files.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from octopus.core.errors import OctopusError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAMESPACE = "octopus-limits"
"""What a signature is for (`ssh-keygen -Y sign -n`): one made for e-mail or git does not count here."""
SIGNATURES_NEEDED = 2

_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_LEAST_RSA_BITS = 2048


class SignatureError(OctopusError):
    """A registered key or a signature cannot be read, or does not count; the message says why."""


@dataclass(frozen=True)
class Authority:
    """Whether the limits in force are signed.

    Attributes:
        live: orders move real money.
        problem: why the limits count as unsigned; None where two signatures stand.
        signers: the names whose signatures count.
    """

    live: bool
    problem: str | None
    signers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signer:
    """A registered key.

    Attributes:
        key: in SSH's wire format. valid_after, valid_before: when signatures by it count (UTC); None: no bound.
    """

    name: str
    key: bytes
    valid_after: datetime | None = None
    valid_before: datetime | None = None


@dataclass(frozen=True)
class Signature:
    """One signature as it was read; nothing about it has been verified.

    Attributes:
        wire: all of it, as it stood between the armour.
    """

    wire: bytes
    key: bytes
    namespace: bytes
    reserved: bytes
    hash_name: bytes
    kind: bytes
    blob: bytes


@dataclass(frozen=True)
class Checked:
    """What a signature is worth: the registered name it counts for, or the problem that it has."""

    fingerprint: str
    name: str | None
    problem: str | None


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def authority(
    document: bytes, signatures: str, signers: str, *, valid_until: date, now: datetime, live: bool
) -> Authority:
    """Whether ``document`` bears the signatures it needs at ``now``.

    Args:
        signatures: text of the signature file; empty where there is none. signers: text of the registered keys.
        valid_until: last day on which the document's signatures count.
    """
    try:
        registered = read_signers(signers)
        found = check_all(document, signatures, registered, now)
    except SignatureError as error:
        return Authority(live, str(error))
    names = tuple(sorted({checked.name for checked in found if checked.name is not None}))
    if len(names) >= SIGNATURES_NEEDED and now.astimezone(UTC).date() > valid_until:
        return Authority(live, f"the signatures expired on {valid_until}: review the limits and sign them again", names)
    if len(names) >= SIGNATURES_NEEDED:
        return Authority(live, None, names)
    return Authority(live, _what_is_missing(names, found, registered), names)


def check_all(document: bytes, signatures: str, signers: Sequence[Signer], now: datetime) -> tuple[Checked, ...]:
    """Each signature of the file, in its order. A second one by the same key, or for the same name, does not count.

    Raises:
        SignatureError: the file cannot be read.
    """
    checked: list[Checked] = []
    for signature in read_signatures(signatures):
        found = check(document, signature, signers, now)
        if found.name is not None and any(earlier.fingerprint == found.fingerprint for earlier in checked):
            found = Checked(found.fingerprint, None, f"the same key of {found.name} signed before")
        elif found.name is not None and any(earlier.name == found.name for earlier in checked):
            found = Checked(found.fingerprint, None, f"another key of {found.name} signed before: two people must sign")
        checked.append(found)
    return tuple(checked)


def check(document: bytes, signature: Signature, signers: Sequence[Signer], now: datetime) -> Checked:
    """Whom a signature counts for."""
    mark = fingerprint(signature.key)
    owner = next((signer for signer in signers if signer.key == signature.key), None)
    if owner is None:
        return Checked(mark, None, f"key {mark} is not registered")
    if signature.namespace != NAMESPACE.encode():
        return Checked(mark, None, f"the signature of {owner.name} was made for {signature.namespace!r}")
    if owner.valid_after is not None and now < owner.valid_after:
        return Checked(mark, None, f"the key of {owner.name} counts only from {owner.valid_after:%Y-%m-%d %H:%M} on")
    if owner.valid_before is not None and now >= owner.valid_before:
        return Checked(mark, None, f"the key of {owner.name} expired at {owner.valid_before:%Y-%m-%d %H:%M}")
    problem = _problem_of(document, signature)
    return Checked(mark, None, f"{problem} (key of {owner.name})") if problem else Checked(mark, owner.name, None)


# Reading -------------------------------------------------------------------------------------------------------------


def read_signers(text: str) -> tuple[Signer, ...]:
    """Registered keys in the ALLOWED SIGNERS format; certificates and wildcards are refused.

    Raises:
        SignatureError: naming the line.
    """
    signers = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            signer = _read_signer(line.strip())
        except (SignatureError, ValueError) as error:
            raise SignatureError(f"line {number} of the registered keys: {error}") from None
        if signer is not None:
            signers.append(signer)
    return tuple(signers)


def _read_signer(line: str) -> Signer | None:
    """One line; None where its key is registered for something else."""
    name, _, rest = line.partition(" ")
    if not name or any(sign in name for sign in '*?!,"'):
        raise SignatureError(f"{name!r} must be one plain name, such as ada@example.org")
    tokens = re.findall(r'(?:[^\s"]|"[^"]*")+', rest)
    options: dict[str, str] = {}
    if tokens and tokens[0] not in _KEY_TYPES and not tokens[0].startswith(("sk-", "ssh-", "ecdsa-")):
        options = _read_options(tokens.pop(0))
    if len(tokens) < 2 or tokens[0] not in _KEY_TYPES:
        shown = tokens[0] if tokens else "nothing"
        raise SignatureError(f"the key type is {shown!r}, use one of {', '.join(_KEY_TYPES)}")
    key = _decode(tokens[1])
    if _Reader(key).string() != tokens[0].encode():
        raise SignatureError(f"the key of {name} is not of the type {tokens[0]} that its line says")
    allowed = options.get("namespaces")
    if allowed is not None and NAMESPACE not in allowed.split(","):
        return None
    after, before = options.get("valid-after"), options.get("valid-before")
    return Signer(name, key, _moment(after) if after else None, _moment(before) if before else None)


def _read_options(text: str) -> dict[str, str]:
    options = {}
    for found in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        key, _, value = found.partition("=")
        if key.lower() not in {"namespaces", "valid-after", "valid-before"}:
            raise SignatureError(f"the option {key!r} is not known here, use namespaces, valid-after, valid-before")
        options[key.lower()] = value.strip('"')
    return options


def _moment(text: str) -> datetime:
    """YYYYMMDD[HHMM[SS]][Z]; always UTC here."""
    digits = text.removesuffix("Z")
    formats = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    if len(digits) not in formats or not digits.isdigit():
        raise SignatureError(f"{text!r} is no time: use YYYYMMDD or YYYYMMDDHHMM")
    return datetime.strptime(digits, formats[len(digits)]).replace(tzinfo=UTC)


def read_signatures(text: str) -> tuple[Signature, ...]:
    """All armoured signatures of a file.

    Raises:
        SignatureError: one cannot be read; the message says which.
    """
    blocks = re.findall(re.escape(_BEGIN) + r"(.*?)" + re.escape(_END), text, flags=re.DOTALL)
    if len(blocks) != text.count(_BEGIN) or len(blocks) != text.count(_END):
        raise SignatureError("the signature file is cut off: sign again")
    signatures = []
    for number, block in enumerate(blocks, start=1):
        try:
            signatures.append(_read_signature(_decode("".join(block.split()))))
        except SignatureError as error:
            raise SignatureError(f"signature {number} cannot be read ({error}): sign again") from None
    return tuple(signatures)


def _read_signature(blob: bytes) -> Signature:
    if not blob.startswith(_MAGIC):
        raise SignatureError("it does not begin with SSHSIG")
    reader = _Reader(blob[len(_MAGIC) :])
    if reader.number() != 1:
        raise SignatureError("it is not of version 1")
    key, namespace, reserved, hash_name, wrapped = (reader.string() for _ in range(5))
    reader.require_end()
    inner = _Reader(wrapped)
    kind, value = inner.string(), inner.string()
    inner.require_end()
    return Signature(blob, key, namespace, reserved, hash_name, kind, value)


class _Reader:
    """SSH's wire format: big-endian lengths before their bytes (RFC 4251, section 5)."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self) -> int:
        (value,) = struct.unpack(">I", self._take(4))
        return int(value)

    def string(self) -> bytes:
        return self._take(self.number())

    def integer(self) -> int:
        return int.from_bytes(self.string(), "big", signed=True)

    def require_end(self) -> None:
        if self._at != len(self._data):
            raise SignatureError("bytes are left over")

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise SignatureError("it is cut off")
        self._at += count
        return self._data[self._at - count : self._at]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("it is not base64") from None


# Verifying and signing -----------------------------------------------------------------------------------------------


def _signed_bytes(document: bytes, namespace: bytes, reserved: bytes, hash_name: bytes) -> bytes:
    digest = _HASHES[hash_name](document).digest()
    return _MAGIC + b"".join(map(_string, (namespace, reserved, hash_name, digest)))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _problem_of(document: bytes, signature: Signature) -> str | None:
    """Why the signature is not one of ``document`` by its key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if signature.hash_name not in _HASHES:
        return f"the hash {signature.hash_name!r} is not known"
    signed = _signed_bytes(document, signature.namespace, signature.reserved, signature.hash_name)
    try:
        _verify(signature, signed)
    except InvalidSignature:
        return "the signature is not of these bytes: the file changed after it was signed"
    except (SignatureError, ValueError, UnsupportedAlgorithm) as error:
        return f"the signature cannot be verified: {error}"
    return None


def _verify(signature: Signature, signed: bytes) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    kind = _Reader(signature.key).string()
    key = load_ssh_public_key(kind + b" " + base64.b64encode(signature.key))
    if isinstance(key, ed25519.Ed25519PublicKey) and signature.kind == b"ssh-ed25519":
        key.verify(signature.blob, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey) and signature.kind == kind:
        reader = _Reader(signature.blob)
        numbers = reader.integer(), reader.integer()
        reader.require_end()
        by_size = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(by_size[key.curve.key_size]))
    elif isinstance(key, rsa.RSAPublicKey) and signature.kind in {b"rsa-sha2-256", b"rsa-sha2-512"}:
        if key.key_size < _LEAST_RSA_BITS:
            raise SignatureError(f"an RSA key of {key.key_size} bits is too short")
        hashed = hashes.SHA256() if signature.kind == b"rsa-sha2-256" else hashes.SHA512()
        key.verify(signature.blob, signed, padding.PKCS1v15(), hashed)
    else:
        raise SignatureError(f"a signature {signature.kind!r} by a key {kind!r} is not known")


def sign(document: bytes, key: Ed25519PrivateKey) -> str:
    """An armoured signature of ``document`` for `NAMESPACE`, as `ssh-keygen -Y sign` makes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    wire = _string(b"ssh-ed25519") + _string(public)
    names = NAMESPACE.encode(), b"", b"sha512"
    made = key.sign(_signed_bytes(document, *names))
    return armour(
        b"".join((_MAGIC, struct.pack(">I", 1), *map(_string, (wire, *names, _string(b"ssh-ed25519") + _string(made)))))
    )


def armour(wire: bytes) -> str:
    """The text form of a signature."""
    text = base64.b64encode(wire).decode()
    return "\n".join((_BEGIN, *(text[i : i + 70] for i in range(0, len(text), 70)), _END)) + "\n"


def is_of(document: bytes, signature: Signature) -> bool:
    """Whether the signature is one of these bytes, whoever made it."""
    return _problem_of(document, signature) is None


def _what_is_missing(names: Sequence[str], found: Sequence[Checked], signers: Sequence[Signer]) -> str:
    if not signers:
        return "no key is registered in limit_signers"
    problems = [checked.problem for checked in found if checked.problem is not None]
    counted = (
        f"signed by {', '.join(names)} alone" if names else "no signature counts" if found else "nobody has signed"
    )
    return "; ".join((f"{counted}, {SIGNATURES_NEEDED} names must sign", *problems))
