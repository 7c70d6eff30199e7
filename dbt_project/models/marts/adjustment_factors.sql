{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook=["{{ join_much_by_hashing() }}", "{{ drop_factors_of_what_arrived() }}"],
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
told as materialized (
    select
        a.source, a.instrument, a.ex_session, a.effective_utc, a.kind, a.value, a.detail, a.known_from, a.known_to,
        a.batch_id
    from {{ ref('stg_corporate_actions') }} a
    {%- if is_incremental() %}
    join changed c on c.source = a.source and c.instrument = a.instrument and a.ex_session >= c.from_session
    {%- endif %}
    where {{ was_ever_seen() }} and a.excluded is not true and a.kind in ('split', 'dividend', 'spin_off')
    {%- if is_incremental() %}
        -- As arrays, the names reach the key of the raw table; as a join they would not.
        and a.source = any(array(select source from changed))
        and a.instrument = any(array(select instrument from changed))
    {%- endif %}
),

closes as materialized (
    select source, instrument, session, close, known_from, known_to, batch_id
    from {{ ref('prices') }}
    where source = any(array(select source from told where kind = 'spin_off'))
        and instrument = any(array(select detail from told where kind = 'spin_off'))
),

worths as (
    {{- spin_off_worths('told', 'closes') }}
),

splits as (
    select * from told where kind = 'split'
),

-- What was paid for one share: cash, and shares of another company as soon as they have a price.
payments as materialized (
    select source, instrument, ex_session, effective_utc, kind, value, known_from, known_to, batch_id
    from told where kind = 'dividend'
    union all
    select * from worths where value is not null
),

-- Splits also of before what is built again: a payment's shares count from the close before it.
others as (
    {%- if is_incremental() %}
    select a.source, a.instrument, a.ex_session, a.kind, a.value, a.known_from, a.known_to, a.batch_id
    from {{ ref('stg_corporate_actions') }} a
    where {{ was_ever_seen() }} and a.excluded is not true and a.kind in ('split', 'dividend')
        and a.source = any(array(select source from told))
        and a.instrument = any(array(select instrument from told))
    {%- else %}
    select source, instrument, ex_session, kind, value, known_from, known_to, batch_id from told where kind <> 'spin_off'
    {%- endif %}
),

-- A payment is measured against the last close before its ex-session. A bar that arrived only after the ex-session
-- opened replaces an earlier one, from the time it was known; so all bars back to the last punctual one may count, which
-- no verdict ever kept out.
measured as materialized (
    select
        a.*,
        -- Not before the ex-session opens: until then a later close may still come.
        greatest(a.known_from, a.effective_utc) as measured_from,
        coalesce((
            select q.session from {{ ref('prices') }} q
            where q.source = a.source and q.instrument = a.instrument
                and q.session < a.ex_session and q.known_from <= a.effective_utc
                and (q.known_to is null or q.known_to > q.known_from)
                -- Counted, so that it is looked up bar by bar from the last one on: as an anti-join of hashes all of the
                -- instrument's bars would be read for each payment.
                and (
                    select count(*) from {{ ref('prices') }} x
                    where x.source = q.source and x.instrument = q.instrument and x.session = q.session
                        and x.known_to = x.known_from
                ) = 0
            order by q.session desc
            limit 1
        ), '-infinity'::date) as punctual_session
    from payments a
),

events as materialized (
    select
        row_number() over () as key, source, instrument, ex_session, kind, value, punctual_session,
        measured_from as known_from, known_to, batch_id
    from measured
    where known_to is null or known_to > measured_from
),

-- Looked up for each payment, likewise.
candidates as materialized (
    select e.key, p.session, p.close, p.known_from as seen_from, p.known_to as seen_to, p.batch_id
    from events e
    cross join lateral (
        select * from {{ ref('prices') }} p
        where p.source = e.source and p.instrument = e.instrument
            and p.session between e.punctual_session and e.ex_session - 1
        offset 0
    ) p
),

last_closes as (
    {{- bar_as_known('events', 'candidates', last=true) }}
),

paid as materialized (
    select
        row_number() over () as key, e.source, e.instrument, e.ex_session, e.kind, e.value,
        bar.session as previous_session, bar.close as previous_close, bar.known_from, bar.known_to,
        greatest(e.batch_id, bar.batch_id) as batch_id
    from last_closes bar
    join events e using (key)
    where bar.session is not null
),

-- Splits since that close, the ex-session's own included: it is paid for the shares after them. What a spin-off is
-- taken from has already paid the session's dividend, so that both together take off their sum.
between_closes as (
    select p.key, o.kind, o.value, o.known_from, o.known_to, o.batch_id
    from paid p
    join others o
        on o.source = p.source and o.instrument = p.instrument and o.ex_session <= p.ex_session
        and (
            (o.kind = 'split' and o.ex_session > p.previous_session)
            or (o.kind = 'dividend' and p.kind = 'spin_off' and o.ex_session = p.ex_session)
        )
        and {{ seen_together('p', 'o') }}
),

instants as (
    select key, known_from as instant from paid
    union
    select b.key, edge.instant
    from between_closes b
    join paid p using (key)
    cross join lateral (values (b.known_from), (b.known_to)) as edge (instant)
    where edge.instant > p.known_from and (p.known_to is null or edge.instant < p.known_to)
),

states as (
    select *, lead(instant) over (partition by key order by instant) as next_instant from instants
),

payment_factors as (
    select
        p.source,
        p.instrument,
        p.ex_session,
        p.kind,
        p.value,
        p.previous_close,
        case count(b.value) filter (where b.kind = 'split')
            when 0 then 1
            when 1 then min(b.value) filter (where b.kind = 'split')
            else {{ product('b.value', "b.kind = 'split'") }}
        end as splits_between,
        coalesce(sum(b.value) filter (where b.kind = 'dividend'), 0) as cash,
        s.instant as known_at,
        coalesce(s.next_instant, p.known_to) as known_to,
        greatest(p.batch_id, max(b.batch_id)) as batch_id
    from paid p
    join states s using (key)
    left join between_closes b on b.key = s.key and {{ seen_at('b', 's.instant') }}
    group by
        p.key, p.source, p.instrument, p.ex_session, p.kind, p.value, p.previous_close, p.known_to, p.batch_id,
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
        1 - value * splits_between / (previous_close - cash * splits_between),
        previous_close,
        known_at,
        known_to,
        batch_id
    from payment_factors
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
