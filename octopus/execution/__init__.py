"""M7 Execution Manager: the life of an order, our book, its comparison with the broker's, and when orders may be sent.

Belongs here: order states, the execution window, profit and loss, reconciliation, as functions of their arguments.
Does not: sending, booking, storing and waiting (resources/execution_engine.py, resources/bookkeeping.py,
resources/brokers, resources/warehouse/order_store.py and account_books.py).
"""
