"""Processes that Octopus starts and stops itself: the embedded PostgreSQL and the services of `octopus up`."""
