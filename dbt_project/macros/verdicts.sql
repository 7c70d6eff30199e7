{#- A bar that a verdict keeps out is in prices for no time (known_to = known_from). What was built on it before goes; what
    still stands without it is built again by the run itself, from that session on. -#}
{% macro drop_rows_kept_out(key, period=none) -%}
    {% if is_incremental() -%}
    {%- set first_day = "date_trunc('" ~ period ~ "', r.session::timestamp)::date" if period else "r.session" %}
    delete from {{ this }} t
    using {{ ref('prices') }} r
    where {{ since_last_build('r') }} and r.known_to = r.known_from
        and t.source = r.source and t.instrument = r.instrument and t.{{ key }} = {{ first_day }}
    {%- endif %}
{%- endmacro %}

{#- What arrived since the factors were built last and may change some: actions, and prices of instruments that have
    any. -#}
{% macro what_changes_factors() %}
    {%- set new = since_last_build('r') %}
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'corporate_actions') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ source('raw', 'action_verdicts') }} r where {{ new }}
        union all
        select r.source, r.instrument, r.session, r.batch_id from {{ ref('prices') }} r
        where {{ new }} and (r.source, r.instrument) in (
            select a.source, a.instrument from {{ source('raw', 'corporate_actions') }} a
            union
            select a.source, a.instrument from {{ source('raw', 'action_verdicts') }} a
        )
{%- endmacro %}

{#- The factors that are built again, those of an action that is kept out since with them. -#}
{% macro drop_factors_of_what_arrived() -%}
    {% if is_incremental() -%}
    delete from {{ this }} t
    using (
        select source, instrument, min(session) as from_session from ({{ what_changes_factors() }}) arrived
        group by source, instrument
    ) c
    where t.source = c.source and t.instrument = c.instrument and t.ex_session >= c.from_session
    {%- endif %}
{%- endmacro %}
