-- Every version of every bar, the vendor's and the verdicts'; incremental builds read the same macro from a session on.
{{ bar_versions() }}
