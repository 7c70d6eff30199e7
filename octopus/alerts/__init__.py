"""What people are told: kinds of alerts, which events of the audit log are worth one, and what a watchdog sees amiss.

Belongs here: what an alert is and when there is one. Does not: reading, storing and delivering (resources/alerts).
"""
