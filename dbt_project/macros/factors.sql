{#- What of marts.adjustment_factors is built again: what arrived since, from the first session that it changes on. -#}

{#- Actions, prices of instruments that have any, and prices of companies that were spun off. -#}
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
