"""What the assets talk to: settings, clock, processes, the warehouse, sources, sentiment, brokers and the registry.

Belongs here: effects (sockets, files, databases, processes, the wall clock) behind small interfaces that speak in
frames and value types. Does not: decisions (octopus/) and orchestration (assets/, octopus_pipelines/).
"""
