{#- Bars of a longer period (`week`, `month`) from marts.prices, in all versions known from the period's end on: of each
    instrument that bore the ticker in it one. -#}
{% macro period_bars(period) %}
{%- set first_day -%} date_trunc('{{ period }}', session::timestamp)::date {%- endset %}
with bearers as materialized (
    {{- bearers() }}
),

{% if is_incremental() -%}
arrived as materialized (
    select *, {{ first_day }} as {{ period }} from {{ ref('prices') }} p where {{ since_last_build('p') }}
),

changed as materialized (
    select
        source,
        instrument,
        min(session) as from_session,
        max(session) as to_session,
        min({{ period }}) as from_{{ period }},
        -- What was known by one instant, and leaves the shares of earlier sessions as they were.
        max(known_from) as known_from,
        bool_and(known_to is null and split_ratio = 1) and min({{ period }}) = max({{ period }}) as goes_on
    from arrived
    group by source, instrument
),

-- Built before it was told who bore the ticker: under another's name, or of both together.
misnamed as materialized (
    select b.source, b.instrument, min(b.{{ period }}) as from_{{ period }}
    from (select * from bearers where permanent_id <> ticker) named
    cross join lateral (
        select * from {{ this }} t
        where t.source = named.source and t.instrument = named.ticker
            and t.last_session >= named.from_day and t.first_session < named.until_day
        offset 0
    ) b
    where b.permanent_id <> named.permanent_id or b.first_session < named.from_day
    group by b.source, b.instrument
),

{% endif -%}
-- A period is over when its last session decides; until then its bar may still change with any session.
calendar as {% if is_incremental() %}materialized {% endif %}(
    select
        exchange,
        {{ first_day }} as {{ period }},
        count(*) as sessions_due,
        max(decision_utc) as ends_utc
    from {{ source('ops', 'sessions') }}
    {%- if is_incremental() %}
    where session >= (
        select min(from_{{ period }})
        from (select from_{{ period }} from changed union all select from_{{ period }} from misnamed) begun
    )
    {%- endif %}
    group by exchange, {{ first_day }}
),

{% if is_incremental() -%}
-- Joined before any bar is looked up: beside that lookup all of the calendar would be read for each instrument.
due as materialized (
    select c.*, calendar.ends_utc, calendar.sessions_due
    from changed c
    join {{ ref('int_instruments') }} i on i.source = c.source and i.instrument = c.instrument
    join calendar on calendar.exchange = i.exchange and calendar.{{ period }} = c.from_{{ period }}
    where c.goes_on and c.known_from <= calendar.ends_utc
        and (c.source, c.instrument) not in (select source, instrument from misnamed)
        -- Nor does a bar go on where another instrument takes the ticker over.
        and not exists (
            select from bearers b
            where b.source = c.source and b.ticker = c.instrument
                and b.from_day > c.from_{{ period }} and b.from_day <= c.to_session
        )
),

-- Bars that only grow: nothing of them is built again but what follows them, and that was known by the period's end.
-- Standing since then, and still, a bar has no other version.
growing as materialized (
    -- All of the period are read side by side, and not looked up one by one.
    select t.*, due.to_session
    from {{ this }} t
    join due on due.source = t.source and due.instrument = t.instrument and due.from_{{ period }} = t.{{ period }}
    where t.last_session < due.from_session and t.known_to is null
        and t.known_from = due.ends_utc and t.sessions_due = due.sessions_due
        and t.source = any(array(select distinct source from due))
        and t.{{ period }} = any(array(select distinct from_{{ period }} from due))
),

grown as (
    select
        source,
        instrument,
        {{ period }},
        max(permanent_id) as permanent_id,
        min(first_session) as first_session,
        max(last_session) as last_session,
        sum(sessions)::bigint as sessions,
        max(sessions_due) as sessions_due,
        max(open) filter (where is_first) as open,
        case when count(high) = count(*) then max(high) end as high,
        case when count(low) = count(*) then min(low) end as low,
        max(close) filter (where is_last) as close,
        case when count(volume) = count(*) then sum(volume order by last_session) end as volume,
        max(split_ratio) filter (where is_first) as split_ratio,
        sum(dividend order by last_session) as dividend,
        case when count(spin_off) = count(*) then sum(spin_off order by last_session) end as spin_off,
        min(price_basis) as price_basis,
        max(known_from) as known_from,
        null::timestamptz as known_to,
        max(batch_id) as batch_id
    from (
        select
            source, instrument, {{ period }}, permanent_id, first_session, last_session, sessions, sessions_due, open,
            high, low, close, volume, split_ratio, dividend, spin_off, price_basis, known_from, batch_id,
            true as is_first, false as is_last
        from growing
        union all
        select
            a.source, a.instrument, a.{{ period }}, null, a.session, a.session, 1, null, a.open, a.high, a.low,
            a.close, a.volume, a.split_ratio, a.dividend, a.spin_off, a.price_basis, null, a.batch_id,
            false, a.session = g.to_session
        from arrived a
        join growing g on g.source = a.source and g.instrument = a.instrument
    ) parts
    group by source, instrument, {{ period }}
),

-- All others are built in whole periods, from the first that changed on. Materialised, so that only the lookup is done
-- instrument by instrument, and no join that follows.
others as materialized (
    select source, instrument, min(from_{{ period }}) as from_{{ period }}
    from (
        select c.source, c.instrument, c.from_{{ period }}
        from changed c
        left join growing g on g.source = c.source and g.instrument = c.instrument
        where g.instrument is null
        union all
        select * from misnamed
    ) all_others
    group by source, instrument
),

daily as materialized (
    select p.*, {{ first_day }} as {{ period }}
    from others c
    cross join lateral (
        select * from {{ ref('prices') }} p
        where p.source = c.source and p.instrument = c.instrument and p.session >= c.from_{{ period }}
        offset 0
    ) p
),

{% else -%}
daily as (
    select p.*, {{ first_day }} as {{ period }} from {{ ref('prices') }} p
),

{% endif -%}

versions as (
    select
        p.*,
        coalesce(b.permanent_id, p.instrument) as permanent_id,
        c.sessions_due,
        -- An exchange without a calendar: its period is over when the next one begins.
        coalesce(c.ends_utc, (p.{{ period }} + interval '1 {{ period }}') at time zone 'UTC') as ends_utc
    from daily p
    left join {{ ref('int_instruments') }} i using (source, instrument)
    left join calendar c on c.exchange = i.exchange and c.{{ period }} = p.{{ period }}
    left join bearers b
        on b.source = p.source and b.ticker = p.instrument and p.session >= b.from_day and p.session < b.until_day
    where p.known_to is null or p.known_to > p.known_from
),

instants as (
    select distinct v.source, v.instrument, v.permanent_id, v.{{ period }}, greatest(edge.instant, v.ends_utc) as instant
    from versions v
    cross join lateral (values (v.known_from), (v.known_to)) as edge (instant)
    where edge.instant is not null
),

states as (
    select
        *,
        lead(instant) over (
            partition by source, instrument, permanent_id, {{ period }} order by instant
        ) as next_instant
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
        on v.source = s.source and v.instrument = s.instrument and v.permanent_id = s.permanent_id
        and v.{{ period }} = s.{{ period }} and {{ seen_at('v', 's.instant') }}
    window
        backwards as (
            partition by v.source, v.instrument, v.permanent_id, v.{{ period }}, s.instant order by v.session desc
        ),
        later as (backwards rows between unbounded preceding and 1 preceding)
)

select
    source,
    instrument,
    {{ period }},
    permanent_id,
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
group by source, instrument, permanent_id, {{ period }}, instant, next_instant
{%- if is_incremental() %}
union all
select * from grown
{%- endif %}
{% endmacro %}
