{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ drop_factors_of_what_arrived() }}",
    indexes=[
        {'columns': ['source', 'instrument', 'ex_session', 'kind', 'known_at'], 'unique': true},
        {'columns': ['source', 'batch_id']},
    ],
) }}
with
{% if is_incremental() -%}
-- Asked for in the statement itself, with no literal from before: what the hook has dropped must be built again.
changed as materialized (
    {{- changed_from(what_changes_factors()) }}
),

{% endif -%}
actions as materialized (
    select a.source, a.instrument, a.ex_session, a.effective_utc, a.kind, a.value, a.known_from, a.known_to, a.batch_id
    from {{ ref('stg_corporate_actions') }} a
    {%- if is_incremental() %}
    join changed c on c.source = a.source and c.instrument = a.instrument and a.ex_session >= c.from_session
    {%- endif %}
    where {{ was_ever_seen() }} and a.excluded is not true
    {%- if is_incremental() %} and a.ex_session >= (select min(from_session) from changed){% endif %}
),

splits as (
    select * from actions where kind = 'split'
),

-- With those before what is built again: a dividend's shares count from the close before it.
earlier_splits as (
    {%- if is_incremental() %}
    select a.source, a.instrument, a.ex_session, a.value, a.known_from, a.known_to, a.batch_id
    from {{ ref('stg_corporate_actions') }} a
    where {{ was_ever_seen() }} and a.excluded is not true and a.kind = 'split'
        and a.source = any(array(select source from actions))
        and a.instrument = any(array(select instrument from actions))
    {%- else %}
    select * from splits
    {%- endif %}
),

-- A dividend is measured against the last close before its ex-session. A bar that arrived only after the ex-session
-- opened replaces an earlier one, from the time it was known; so all bars back to the last punctual one may count.
measured as materialized (
    select
        a.*,
        coalesce((
            select max(q.session) from {{ ref('prices') }} q
            where q.source = a.source and q.instrument = a.instrument
                and q.session < a.ex_session and q.known_from <= a.effective_utc
                and (q.known_to is null or q.known_to > q.known_from)
        ), '-infinity'::date) as punctual_session
    from actions a
    where a.kind = 'dividend'
),

priced as (
    select
        a.source,
        a.instrument,
        a.ex_session,
        a.value,
        p.session as previous_session,
        p.close as previous_close,
        -- Not before the ex-session opens: until then a later close may still come.
        greatest(a.known_from, p.known_from, a.effective_utc) as known_from,
        least(a.known_to, p.known_to, min(p.known_from) over (
            partition by a.source, a.instrument, a.ex_session, a.batch_id order by p.session desc
            range between unbounded preceding and interval '1 day' preceding
        )) as known_to,
        greatest(a.batch_id, p.batch_id) as batch_id
    from measured a
    join {{ ref('prices') }} p
        on p.source = a.source and p.instrument = a.instrument
        and p.session between a.punctual_session and a.ex_session - 1
        and (p.known_to is null or p.known_to > p.known_from)
),

dividends as (
    select * from priced where {{ was_ever_seen() }}
),

-- Splits since that close, the ex-session's own included: the cash is paid for the shares after them.
between_closes as (
    select
        d.source,
        d.instrument,
        d.ex_session,
        d.known_from as of_known_from,
        s.value,
        s.known_from,
        s.known_to,
        s.batch_id
    from dividends d
    join earlier_splits s
        on s.source = d.source and s.instrument = d.instrument
        and s.ex_session > d.previous_session and s.ex_session <= d.ex_session
        and {{ seen_together('d', 's') }}
),

instants as (
    select source, instrument, ex_session, known_from as of_known_from, known_from as instant from dividends
    union
    select b.source, b.instrument, b.ex_session, b.of_known_from, edge.instant
    from between_closes b
    join dividends d
        on d.source = b.source and d.instrument = b.instrument and d.ex_session = b.ex_session
        and d.known_from = b.of_known_from
    cross join lateral (values (b.known_from), (b.known_to)) as edge (instant)
    where edge.instant > d.known_from and (d.known_to is null or edge.instant < d.known_to)
),

states as (
    select
        *,
        lead(instant) over (
            partition by source, instrument, ex_session, of_known_from order by instant
        ) as next_instant
    from instants
),

dividend_factors as (
    select
        d.source,
        d.instrument,
        d.ex_session,
        'dividend' as kind,
        d.value,
        d.previous_close,
        case count(b.value)
            when 0 then 1
            when 1 then min(b.value)
            else {{ product('b.value', 'true') }}
        end as splits_between,
        s.instant as known_at,
        coalesce(s.next_instant, d.known_to) as known_to,
        greatest(d.batch_id, max(b.batch_id)) as batch_id
    from dividends d
    join states s
        on s.source = d.source and s.instrument = d.instrument and s.ex_session = d.ex_session
        and s.of_known_from = d.known_from
    left join between_closes b
        on b.source = s.source and b.instrument = s.instrument and b.ex_session = s.ex_session
        and b.of_known_from = s.of_known_from and {{ seen_at('b', 's.instant') }}
    group by
        d.source, d.instrument, d.ex_session, d.value, d.previous_close, d.known_to, d.batch_id,
        s.instant, s.next_instant
),

factors as (
    select
        source,
        instrument,
        ex_session,
        kind,
        value,
        (1 / value)::double precision as split_factor,
        1::double precision as dividend_factor,
        null::double precision as previous_close,
        known_from as known_at,
        known_to,
        batch_id
    from splits

    union all

    select
        source,
        instrument,
        ex_session,
        kind,
        value,
        1,
        1 - value * splits_between / previous_close,
        previous_close,
        known_at,
        known_to,
        batch_id
    from dividend_factors
)

select
    source,
    instrument,
    ex_session,
    kind,
    value,
    split_factor,
    dividend_factor,
    previous_close,
    known_at,
    known_to,
    -- No further than prices were built: a bar that arrives while this is read is then still new to the next build.
    least(batch_id, (select max(p.batch_id) from {{ ref('prices') }} p where p.source = factors.source)) as batch_id
from factors
