{#- What the shares of a spin-off were worth: the ratio times the first close of the new company, within
    `spin_off_days` of the ex-session. Null until such a close is known; octopus/market_data/adjust.py says the same. -#}
{%- macro spin_off_days() -%} 14 {%- endmacro %}

{#- Versions of worths, with the columns of an action (`value` is the worth). ``told`` names the common table of actions
    (source, instrument, ex_session, effective_utc, kind, value, detail, known_from, known_to, batch_id), ``closes`` that
    of the new companies' bars (source, instrument, session, close, known_from, known_to, batch_id). -#}
{% macro spin_off_worths(told, closes) %}
    with spin_offs as materialized (
        select *, row_number() over () as key from {{ told }} where kind = 'spin_off'
    ),

    candidates as materialized (
        select s.key, c.session, c.close, c.known_from as seen_from, c.known_to as seen_to, c.batch_id
        from spin_offs s
        join {{ closes }} c
            on c.source = s.source and c.instrument = s.detail
            and c.session >= s.ex_session and c.session < s.ex_session + {{ spin_off_days() }}
    ),

    first_closes as (
        {{- bar_as_known('spin_offs', 'candidates') }}
    )

    select
        s.source,
        s.instrument,
        s.ex_session,
        s.effective_utc,
        s.kind,
        s.value * f.close as value,
        f.known_from,
        f.known_to,
        -- With whatever was known of the new company by then: a close that was withdrawn changes the worth, too.
        greatest(s.batch_id, (
            select max(c.batch_id) from candidates c where c.key = s.key and c.seen_from <= f.known_from
        )) as batch_id
    from spin_offs s
    join first_closes f using (key)
{% endmacro %}

{#- Spin-offs whose worth may have changed: those of new companies of which bars arrived (``bars``: source, instrument,
    session and batch_id; as of the spin-off's own instrument and ex-session). -#}
{% macro spin_offs_of(bars) %}
    {%- for actions in ('corporate_actions', 'action_verdicts') %}
        select a.source, a.instrument, a.session, r.batch_id
        from ({{ bars }}) r
        join {{ source('raw', actions) }} a
            on a.kind = 'spin_off' and a.source = r.source and a.detail = r.instrument
            and r.session >= a.session and r.session < a.session + {{ spin_off_days() }}
        {%- if not loop.last %}
        union all
        {%- endif %}
    {%- endfor %}
{%- endmacro %}
