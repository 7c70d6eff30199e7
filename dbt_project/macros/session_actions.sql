{#- Versions of actions, all of them or of the ex-sessions from ``since`` on (a date in SQL, or none). -#}
{% macro action_versions(since=none, declared=true) %}
with versions as (
    {{- sent_and_judged(
        'corporate_actions', 'action_verdicts', 'source, instrument, session, ts, kind, value, detail', since, declared
    ) }}
)

select
    source,
    instrument,
    session as ex_session,
    ts as effective_utc,
    kind,
    value,
    detail,
    known_at as known_from,
    {{ superseded_at(['source', 'instrument', 'session', 'kind']) }} as known_to,
    known_at_imputed,
    ingested_at,
    batch_id,
    excluded
from versions
{% endmacro %}

{#- Which actions a bar carries, and when that was known; int_session_actions is the whole of it.

    An action counts at the first bar on or after its ex-session. A bar that arrives late takes the action over from the
    later bar that carried it until then. Over a gap of more than a year nothing is carried, so that sessions from
    ``since`` on (a date in SQL, or none) need no older rows than that. Only those of the common table `changed` (source,
    instrument, from_session) that begin before ``recent`` are asked for from ``since`` on, all others from ``recent`` on. -#}
{% macro session_actions(since=none, recent=none) %}
{%- set begins -%}
    {%- if since != recent -%}
    case when (source, instrument) in (select source, instrument from changed where from_session < {{ recent }})
        then {{ since }} else {{ recent }} end
    {%- else -%}
    {{ since }}
    {%- endif -%}
{%- endset %}
-- What a verdict keeps out counts for nothing, but with its batch: what was built on it before is told by that.
with told as materialized (
    select
        source, instrument, ex_session, effective_utc, case when excluded then 'kept out' else kind end as kind, value,
        detail, known_from, known_to, batch_id
    from {% if since -%}
    ({{ action_versions("(" ~ since ~ " - " ~ carried_days() ~ ")") }}) stg_corporate_actions
    {%- else %}{{ ref('stg_corporate_actions') }}{% endif %}
    where {{ was_ever_seen() }} and kind in ('split', 'dividend', 'spin_off')
    {%- if since %}
        and ex_session >= {{ begins }} - {{ carried_days() }}
        and (ex_session >= {{ begins }} or not {{ is_settled() }})
    {%- endif %}
),

-- Of the companies that were spun off.
closes as materialized (
    select
        source,
        instrument,
        session,
        close,
        known_from,
        case when excluded then known_from else known_to end as known_to,
        batch_id
    from {% if since %}({{ bar_versions("(" ~ since ~ " - " ~ carried_days() ~ ")") }}) b{% else %}{{ ref('stg_bars') }}{% endif %}
    where source = any(array(select source from told where kind = 'spin_off'))
        and instrument = any(array(select detail from told where kind = 'spin_off'))
),

worths as (
    {{- spin_off_worths('told', 'closes') }}
),

actions as materialized (
    select *, row_number() over () as key
    from (
        select source, instrument, ex_session, kind, value, known_from, known_to, batch_id
        from told where kind <> 'spin_off'
        union all
        select source, instrument, ex_session, kind, value, known_from, known_to, batch_id from worths
    ) all_kinds
),

{% if not since -%}
-- What the bar of its own ex-session carries for good: the usual case, in which no other bar need be looked at.
punctual as materialized (
    select a.key, a.ex_session as session, min(b.known_from) as seen_from
    from actions a
    join {{ ref('stg_bars') }} b on b.source = a.source and b.instrument = a.instrument and b.session = a.ex_session
    group by a.key, a.ex_session
    having min(b.known_from) < {{ evening_of('a.ex_session') }} and bool_or(b.excluded) is not true
),

{% endif -%}
waiting as materialized (
    select * from actions {% if not since %}where key not in (select key from punctual){% endif %}
),

-- From when on a bar was seen; by verdict it may have been kept out from one time on, until another.
bars as (
    select
        source,
        instrument,
        session,
        min(known_from) filter (where excluded is not true) as first_known,
        min(known_from) filter (where excluded and {{ was_ever_seen() }}) as held_from,
        case when bool_or(excluded and known_to is null) is not true
            then max(known_to) filter (where excluded and {{ was_ever_seen() }})
        end as released_from
    from {% if since %}({{ bar_versions("(" ~ since ~ " - " ~ carried_days() ~ ")") }}) b{% else %}{{ ref('stg_bars') }}{% endif %}
    where source = any(array(select source from waiting)) and instrument = any(array(select instrument from waiting))
        -- Whether a bar is late, and which one settles an action, later bars alone say.
        and session >= (select min(ex_session) from waiting)
    group by source, instrument, session
    having bool_or(excluded is not true)
),

-- Late: a later session was known before this one.
arrivals as (
    select
        *,
        coalesce(first_known > min(first_known) over (
            partition by source, instrument order by session desc
            rows between unbounded preceding and 1 preceding
        ), false) as late
    from bars
),

timeline as (
    select
        source, instrument, session, session as bar_session, first_known, held_from, released_from,
        not late and held_from is null as settles
    from arrivals
    union all
    select distinct
        source, instrument, ex_session, null::date, null::timestamptz, null::timestamptz, null::timestamptz,
        null::boolean
    from waiting
),

-- Beyond the first bar that was not late, and never kept out, nothing can carry an action of this day. Descending, so
-- that the frame starts at a fixed row: a moving start makes PostgreSQL begin again at each row.
settled as (
    select
        *,
        coalesce(min(bar_session) filter (where settles) over (
            partition by source, instrument order by session desc
            range between unbounded preceding and current row
        ), 'infinity'::date) as settled_session
    from timeline
),

candidates as materialized (
    select
        a.key, bar.bar_session as session, null::double precision as close, seen.seen_from, seen.seen_to,
        null::bigint as batch_id
    from waiting a
    join settled ex_day
        on ex_day.source = a.source and ex_day.instrument = a.instrument
        and ex_day.session = a.ex_session and ex_day.bar_session is null
    join settled bar
        on bar.source = a.source and bar.instrument = a.instrument
        and bar.settled_session = ex_day.settled_session
        and bar.bar_session between a.ex_session and a.ex_session + {{ carried_days() }}
    cross join lateral (
        values (bar.first_known, bar.held_from), (bar.released_from, null)
    ) as seen (seen_from, seen_to)
    where seen.seen_from < coalesce(seen.seen_to, 'infinity')
    {%- if not since %}
    union all
    select key, session, null, seen_from, null, null from punctual
    {%- endif %}
),

attached as (
    {{- bar_as_known('actions', 'candidates') }}
),

carried as (
    select
        a.source, a.instrument, bar.session, a.ex_session, a.kind, a.value, bar.known_from, bar.known_to, a.batch_id
    from attached bar
    join actions a using (key)
    where bar.session is not null
),

instants as (
    select source, instrument, session, '-infinity'::timestamptz as instant from carried
    union
    select source, instrument, session, known_from from carried
    union
    select source, instrument, session, known_to from carried where known_to is not null
),

states as (
    select
        *,
        lead(instant) over (partition by source, instrument, session order by instant) as next_instant
    from instants
),

active as (
    select
        s.source,
        s.instrument,
        s.session,
        s.instant,
        s.next_instant,
        c.ex_session,
        c.kind,
        c.value,
        c.batch_id,
        -- Splits after a dividend on the way to the bar: the cash was paid for an old share, of which there are now more.
        exp(sum(ln(c.value::numeric(40, 20))) filter (where c.kind = 'split' and c.value > 0) over (
            partition by s.source, s.instrument, s.session, s.instant order by c.ex_session desc
            range between unbounded preceding and interval '1 day' preceding
        ))::double precision as later_splits
    from states s
    left join carried c
        on c.source = s.source and c.instrument = s.instrument and c.session = s.session
        and {{ seen_at('c', 's.instant') }}
)

select
    source,
    instrument,
    session,
    case count(*) filter (where kind = 'split')
        when 0 then 1
        when 1 then min(value) filter (where kind = 'split')
        else {{ product('value', "kind = 'split'") }}
    end as split_ratio,
    coalesce(
        sum(value / coalesce(later_splits, 1) order by ex_session) filter (where kind = 'dividend'), 0
    ) as dividend,
    -- Of a sum that is known in part nothing is known.
    case when count(*) filter (where kind = 'spin_off' and value is null) = 0 then coalesce(
        sum(value / coalesce(later_splits, 1) order by ex_session) filter (where kind = 'spin_off'), 0
    ) end as spin_off,
    instant as known_from,
    next_instant as known_to,
    max(batch_id) as batch_id
from active
group by source, instrument, session, instant, next_instant
{% endmacro %}

{%- macro carried_days() -%} 366 {%- endmacro %}

{#- Until when a bar of ``session`` was known before every later one. -#}
{%- macro evening_of(session) -%} ({{ session }} + 1)::timestamp at time zone 'UTC' + interval '1 hour' {%- endmacro %}

{#- The bar of its ex-session carries the action of stg_corporate_actions for good, unless it is built again: it was known
    on its own evening, so before every later one, and no verdict ever kept it out. Of marts.prices, which that bar is in. -#}
{%- macro is_settled() -%}
    exists (
        select from {{ this }} p
        where p.source = stg_corporate_actions.source and p.instrument = stg_corporate_actions.instrument
            and p.session = stg_corporate_actions.ex_session
            and p.known_from < {{ evening_of('p.session') }}
            -- As a set, which is made once: looked for each time, all verdicts would be read for each action of a year.
            and (p.source, p.instrument, p.session) not in (
                select source, instrument, session from {{ source('raw', 'bar_verdicts') }} where excluded
            )
    )
{%- endmacro %}
