-- Every version of every action, the vendor's and the verdicts'; incremental builds read the same macro from a session on.
{{ action_versions() }}
