"""Brokers behind one protocol: the paper broker, adapters for real venues, and the table that names them.

Belongs here: talking to a venue and saying truthfully what it guarantees. Does not: deciding what to send (octopus/),
when to send again (resources/execution_engine.py) and our own records (resources/warehouse/order_store.py).
"""
