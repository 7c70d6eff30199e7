"""When and how it runs: the two code locations, jobs, schedules, sensors and the command line.

Belongs here: cadence, triggers and what a user types. Does not: what an asset does (assets/).
"""
