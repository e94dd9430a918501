"""Hashes passwords by scrypt (RFC 7914), and remembers in one process those that were right."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading

COST, BLOCK, PARALLEL = 14, 8, 1
"""The cost is 2 to the power of 14: about a tenth of a second on a present machine."""

MAX_COST = 18
_REMEMBERED = 64


def hash_password(password: str) -> str:
    """Return the hash of a password, with its parameters, as the setting `access` takes it."""
    salt = os.urandom(16)
    digest = _scrypt(password, salt, COST, BLOCK, PARALLEL)
    return f"scrypt${COST}${BLOCK}${PARALLEL}${_text(salt)}${_text(digest)}"


def is_password(password: str, hashed: str) -> bool:
    """Return whether a hash is that of a password; a hash of another form is of none."""
    try:
        _, cost, block, parallel, salt, digest = hashed.split("$")
        if int(cost) > MAX_COST:
            return False
        found = _scrypt(password, _bytes(salt), int(cost), int(block), int(parallel))
        return hmac.compare_digest(found, _bytes(digest))
    except ValueError:
        return False


class RightPasswords:
    """The credentials that were found right in this process, as keyed hashes, a bounded number."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._known: dict[bytes, str] = {}
        self._lock = threading.Lock()

    def add(self, credentials: str, user: str) -> None:
        """Remember credentials."""
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[self._hash(credentials)] = user

    def user_of(self, credentials: str) -> str | None:
        """Return the user of credentials that were right; None for others."""
        return self._known.get(self._hash(credentials))

    def _hash(self, credentials: str) -> bytes:
        return hmac.digest(self._key, credentials.encode("utf-8", "replace"), "sha256")


def _scrypt(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=salt,
        n=2**cost,
        r=block,
        p=parallel,
        maxmem=256 * 2**cost * block,
        dklen=32,
    )


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
