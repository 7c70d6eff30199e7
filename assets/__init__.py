"""What exists: one module for each agent's asset group.

Belongs here: asset definitions whose bodies read, call `octopus/`, write and report. Does not: maths (octopus/), SQL
and sockets (resources/), jobs and schedules (octopus_pipelines/). Group modules do not import each other; what they
share is `keys`, `partitions` and `reporting`.
"""
