{#- Bars of a longer period (`week`, `month`) from marts.prices, in all versions known from the period's end on. -#}
{% macro period_bars(period) %}
{%- set first_day -%} date_trunc('{{ period }}', session::timestamp)::date {%- endset %}
{%- if is_incremental() %}
{%- set arrived %}
    select p.source, p.instrument, {{ first_day }} as session, p.batch_id
    from {{ ref('prices') }} p
    where {{ since_last_build('p') }}
{%- endset %}
{%- set bounds = build_bounds(arrived) %}
{%- endif %}
with
{% if is_incremental() -%}
-- In whole periods: what arrived counts as of the first day of its own.
changed as (
    {{- changed_from(arrived) }}
),

{% endif -%}
-- A period is over when its last session decides; until then its bar may still change with any session.
calendar as (
    select
        exchange,
        {{ first_day }} as {{ period }},
        count(*) as sessions_due,
        max(decision_utc) as ends_utc
    from {{ source('ops', 'sessions') }}
    group by exchange, {{ first_day }}
),

daily as (
    select p.*, {{ first_day }} as {{ period }}
    from {{ ref('prices') }} p
    {%- if is_incremental() %}
    join changed c on c.source = p.source and c.instrument = p.instrument and p.session >= c.from_session
    where p.session >= {{ bounds.since }}
    {%- endif %}
),

versions as (
    select
        p.*,
        c.sessions_due,
        -- An exchange without a calendar: its period is over when the next one begins.
        coalesce(c.ends_utc, (p.{{ period }} + interval '1 {{ period }}') at time zone 'UTC') as ends_utc
    from daily p
    left join {{ ref('int_instruments') }} i using (source, instrument)
    left join calendar c on c.exchange = i.exchange and c.{{ period }} = p.{{ period }}
    where p.known_to is null or p.known_to > p.known_from
),

instants as (
    select distinct v.source, v.instrument, v.{{ period }}, greatest(edge.instant, v.ends_utc) as instant
    from versions v
    cross join lateral (values (v.known_from), (v.known_to)) as edge (instant)
    where edge.instant is not null
),

states as (
    select
        *,
        lead(instant) over (partition by source, instrument, {{ period }} order by instant) as next_instant
    from instants
),

seen as (
    select
        v.*,
        s.instant,
        s.next_instant,
        row_number() over later = 1 as is_last,
        lead(v.session) over backwards is null as is_first,
        -- Shares at the period's end for one share now: the ratios of the splits to come.
        case count(nullif(v.split_ratio, 1)) over later
            when 0 then 1
            when 1 then min(nullif(v.split_ratio, 1)) over later
            else round(exp(sum(ln(nullif(v.split_ratio, 1)::numeric(40, 20))) over later), 12)
        end::double precision as later_splits
    from states s
    join versions v
        on v.source = s.source and v.instrument = s.instrument and v.{{ period }} = s.{{ period }}
        and {{ seen_at('v', 's.instant') }}
    window
        backwards as (partition by v.source, v.instrument, v.{{ period }}, s.instant order by v.session desc),
        later as (backwards rows between unbounded preceding and 1 preceding)
)

select
    source,
    instrument,
    {{ period }},
    min(session) as first_session,
    max(session) as last_session,
    count(*) as sessions,
    max(sessions_due) as sessions_due,
    max(open / later_splits) filter (where is_first) as open,
    -- Of a range that is known in part nothing is known.
    case when count(high) = count(*) then max(high / later_splits) end as high,
    case when count(low) = count(*) then min(low / later_splits) end as low,
    max(close) filter (where is_last) as close,
    case when count(volume) = count(*) then sum(volume * later_splits order by session) end as volume,
    case count(nullif(split_ratio, 1))
        when 0 then 1
        when 1 then min(nullif(split_ratio, 1))
        else {{ product('split_ratio', 'split_ratio <> 1') }}
    end as split_ratio,
    sum(dividend / later_splits order by session) as dividend,
    case when count(spin_off) = count(*) then sum(spin_off / later_splits order by session) end as spin_off,
    min(price_basis) as price_basis,
    instant as known_from,
    next_instant as known_to,
    max(batch_id) as batch_id
from seen
group by source, instrument, {{ period }}, instant, next_instant
{% endmacro %}
