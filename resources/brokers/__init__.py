"""Brokers behind one protocol: the paper broker, and later adapters for real venues.

Belongs here: talking to a venue and saying truthfully what it guarantees. Does not: deciding what to send (octopus/),
when to send again (resources/execution_engine.py) and our own records (resources/warehouse/order_store.py).
"""
