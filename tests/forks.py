"""Processes that have loaded what tests start again and again: each request is answered by a fork of one.

To load dbt, or all that `octopus` imports, takes longer than most of what they are asked. A fork starts with that done
and, as a process of its own, leaves nothing to the next. Belongs here: asking and forking. Does not: what is run
(dbt_server.py, command_line.py).
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Asked = Mapping[str, Any]
_NUMBERS = itertools.count()


def ask(module: str, **asked: Any) -> int:
    """The exit status of a fork of ``module``, which `serve`s, that ran what is asked: plain values.

    What it prints goes to the files ``stdout`` and ``stderr``.
    """
    server = _server(module)
    assert server.stdin is not None
    assert server.stdout is not None
    number = next(_NUMBERS)
    server.stdin.write(json.dumps(asked | {"number": number}) + "\n")
    server.stdin.flush()
    for answer in iter(server.stdout.readline, ""):
        told, status = map(int, answer.split())
        # What a test asked that ended before its answer came is left in the pipe.
        if told == number:
            return status
    raise AssertionError(f"the process of {module} ended")


@cache
def _server(module: str) -> subprocess.Popen[str]:
    """One for the worker; it ends with the pipe that it reads from."""
    return subprocess.Popen(
        [sys.executable, "-m", module], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def serve(run: Callable[[Asked], None], before: Callable[[Asked], None] | None = None) -> None:
    """Answer each request, a line of standard input, with the exit status of a fork in which ``run`` ran.

    Args:
        run: returns, or raises `SystemExit`. before: done in this process, so that it is done for later forks, too.
    """
    answers, requests = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in requests:
        asked = json.loads(line)
        _redirect(asked)
        if before is not None:
            before(asked)
        sys.stdout.flush()
        process = os.fork()
        if not process:
            # Whatever it raises ends this process as one of its own would end, with all that Python does then.
            run(asked)
            sys.exit(0)
        answers.write(f"{asked['number']} {os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n")
        answers.flush()


def _redirect(asked: Asked) -> None:
    """What this process and its forks print goes to files from now on."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        output = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, number)
        os.close(output)
