{{ config(meta={'dagster': {'ref': {'name': 'stg_bars'}}}) }}
-- A bar on a day that is no session of its exchange would be missing in the panel.
select b.source, b.instrument, b.session
from {{ ref('stg_bars') }} b
join {{ ref('int_instruments') }} i using (source, instrument)
left join {{ ref('int_sessions') }} s on s.exchange = i.exchange and s.session = b.session
where s.session is null
