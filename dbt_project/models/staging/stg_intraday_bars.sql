-- Every version of every bar within the day; incremental builds read the same macro from a session on.
{{ config(tags=['intraday']) }}
{{ intraday_versions() }}
