"""Other projects, measured beside ours: each in an environment of its own, in a process of its own.

Belongs here: making the environments (``make peers``), running one side, and each peer's way of saying the written job.
Does not: ours, comparing, printing (the modules beside this package).

The modules ``by_*`` run in the peer's interpreter: they import its library, NumPy, `timing` and `rules`, and nothing
else of Octopus. None of the peers is a dependency, and nothing of theirs is in this repository. vectorbt (Commons
Clause) and backtesting.py (AGPL) may be measured beside; they are not shipped.
"""
