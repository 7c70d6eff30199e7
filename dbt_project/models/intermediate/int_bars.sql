-- Bars that were ever seen, with their price basis; incremental builds read the same macro from a session on.
{{ seen_bars() }}
