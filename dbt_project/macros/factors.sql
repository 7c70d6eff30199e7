{#- What of marts.adjustment_factors is built again: what arrived since, from the first session that it changes on. -#}

{#- Actions, prices before any of their instrument's (no factor is of a later close), and prices of companies that were
    spun off. -#}
{% macro what_changes_factors() %}
    {%- set new = since_last_build('r') %}
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'corporate_actions') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'action_verdicts') }} r where {{ new }}
        union all
        select * from (
            -- Materialised, or the least session would be looked for from the first price on.
            with arrived as materialized (
                select r.source, r.instrument, r.session, r.batch_id from {{ ref('prices') }} r
                where {{ new }} and r.source = any(array(
                    select i.source
                    from (select distinct source from {{ source('raw', 'instruments') }}) i
                    where exists (select from {{ source('raw', 'corporate_actions') }} a where a.source = i.source)
                        or exists (select from {{ source('raw', 'action_verdicts') }} v where v.source = i.source)
                ))
            ),

            begun as materialized (
                select source, instrument, min(session) as session from arrived group by source, instrument
            ),

            -- Of most, so that some prices of long ago do not have everyone's actions read; a few have theirs looked up.
            most as materialized (
                select case when count(*) <= 500 then 'infinity' else percentile_disc(0.25) within group (order by session) end
                    as session
                from begun
            )

            select r.* from arrived r
            join (
                select source, instrument, max(session) as last_session
                from (
                    {%- for table in ('corporate_actions', 'action_verdicts') %}
                    select source, instrument, session from {{ source('raw', table) }}
                    -- By ts too, which chunks go by: a session opens no earlier than its own day begins anywhere.
                    where session > (select session from most)
                        and ts >= (select (session - 1)::timestamp at time zone 'UTC' from most)
                    union all
                    select a.source, a.instrument, a.session
                    from begun
                    cross join lateral (
                        select * from {{ source('raw', table) }} a
                        where a.source = begun.source and a.instrument = begun.instrument
                        offset 0
                    ) a
                    where begun.session < (select session from most)
                    {%- if not loop.last %}
                    union all
                    {%- endif %}
                    {%- endfor %}
                ) actions
                group by source, instrument
            ) a on a.source = r.source and a.instrument = r.instrument and a.last_session > r.session
        ) before_actions
        union all
        {{- spin_offs_of("select * from " ~ ref('prices') ~ " r where " ~ new) }}
{%- endmacro %}

{#- The lock keeps an action from arriving between this and the model's own statement: its factors would go and not be
    built again, or be built twice. -#}
{% macro drop_factors_of_what_arrived() -%}
    {% if is_incremental() -%}
    lock table {{ source('raw', 'corporate_actions') }}, {{ source('raw', 'action_verdicts') }} in share mode;
    delete from {{ this }} t
    using ({{ changed_from(what_changes_factors()) }}) c
    where t.source = c.source and t.instrument = c.instrument and t.ex_session >= c.from_session
    {%- endif %}
{%- endmacro %}
