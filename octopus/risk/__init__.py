"""M6 Risk Manager: how much could be lost, how much may be, and which orders stay within it.

Belongs here: loss measures, limits, the pre-trade gate, its picture. Does not: rules of law and venue
(octopus/compliance), reading broker or prices (resources), the switch that halts an account (octopus_pipelines).
"""
