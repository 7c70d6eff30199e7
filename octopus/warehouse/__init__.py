"""M2 Data Warehouse: what is suspicious in stored data, and how it is shown.

Belongs here: detectors over panels, findings, pictures of them. Does not: storing them (resources/warehouse), SQL.
"""
