"""Text as every file, database and channel takes it.

Belongs here: what is done to characters that some of them refuse. Does not: words and sentences.
"""

from __future__ import annotations

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """``text`` with the replacement character for each that UTF-8 or PostgreSQL refuses.

    Those are NUL and lone surrogates, which Python makes of bytes that are no UTF-8 (PEP 383): of a word of the command
    line that was typed in a terminal of another encoding, or of a file's name.
    """
    return _UNSTORABLE.sub(_REPLACEMENT, text)
