"""The only place that knows SQL and the warehouse's sockets: connections, migrations, bulk appends and as-of reads."""
