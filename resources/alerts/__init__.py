"""Telling people: alerts stored, spooled and delivered, and what a watchdog looks at; never on the order path."""
