{#- Versions of bars within the day, all of them or of the sessions from ``since`` on (a date in SQL). By session in their
    key, too, so that a part of them is numbered without the rest. -#}
{% macro intraday_versions(since=none) %}
select
    source,
    instrument,
    interval_minutes,
    session,
    ts,
    open,
    high,
    low,
    close,
    volume,
    vwap,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'interval_minutes', 'session', 'ts']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id
from {{ source('raw', 'intraday_bars') }}
{%- if since %}
-- By ts too, which chunks go by: a session opens no earlier than its own day begins anywhere.
where session >= {{ since }} and ts >= ({{ since }} - 1)::timestamp at time zone 'UTC'
{%- endif %}
{% endmacro %}
