-- depends_on: {{ ref('stg_bars') }}, {{ ref('stg_corporate_actions') }}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'session'],
    on_schema_change='fail',
    pre_hook="{{ drop_rows_kept_out() }}",
    indexes=[
        {'columns': ['source', 'instrument', 'session', 'known_from'], 'unique': true},
        {'columns': ['source', 'session']},
    ],
) }}
with
{% if is_incremental() -%}
-- Batches are numbered in commit order, so what is above the greatest number stored is what is new. A bar or an action
-- changes nothing before its own session: from there on the instrument is built again.
stored as (
    select source, max(batch_id) as batch_id from {{ this }} group by source
),

changed as (
    select arrived.source, arrived.instrument, min(arrived.session) as from_session
    from (
        select source, instrument, session, batch_id from {{ ref('stg_bars') }}
        union all
        select source, instrument, ex_session, batch_id from {{ ref('stg_corporate_actions') }}
    ) arrived
    left join stored using (source)
    where arrived.batch_id > coalesce(stored.batch_id, 0)
    group by arrived.source, arrived.instrument
),

{% endif -%}
bars as (
    select b.*
    from {{ ref('int_bars') }} b
    {%- if is_incremental() %}
    join changed c on c.source = b.source and c.instrument = b.instrument and b.session >= c.from_session
    {%- endif %}
)

select
    b.source,
    b.instrument,
    b.session,
    b.open,
    b.high,
    b.low,
    b.close,
    b.volume,
    coalesce(a.split_ratio, 1)::double precision as split_ratio,
    coalesce(a.dividend, 0)::double precision as dividend,
    b.price_basis,
    greatest(b.known_from, a.known_from) as known_from,
    least(b.known_to, a.known_to) as known_to,
    greatest(b.batch_id, a.batch_id) as batch_id
from bars b
left join {{ ref('int_session_actions') }} a
    on a.source = b.source and a.instrument = b.instrument and a.session = b.session
    and {{ seen_together('b', 'a') }}
