"""Defects of one vendor's raw daily bars and corporate actions: found, dated and with a proposed repair.

Belongs here: detectors over raw bars, splits, dividends and the vendor's own adjusted close. Does not: detectors over a
point-in-time panel (warehouse/quality.py, which also says what a finding is), refusing records, storing findings.
"""
