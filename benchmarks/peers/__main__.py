"""`make peers`: the environments of the peers, all or those named."""

from __future__ import annotations

import sys

from benchmarks.peers.environments import NAMES, make


def main() -> None:
    """Make each; the others too where one fails.

    Raises:
        SystemExit: naming those that could not be made.
    """
    wrong = []
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            raise SystemExit(f"{name} is no peer; there are {', '.join(NAMES)}")
        print(f"{name} ...", flush=True)
        complaint = make(name)
        if complaint:
            wrong.append(complaint)
    if wrong:
        raise SystemExit("\n".join(["could not be made:", *wrong]))


if __name__ == "__main__":
    main()
