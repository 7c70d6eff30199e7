{#- What the data tests read: everything, or in an ordinary day's build what is of the sessions that it changed.

    OCTOPUS_CHECKED_SINCE is the first of them, or empty: assets/warehouse.py sets it to the first session of what has
    arrived since the last build that passed. Read while tests run and not while they are parsed, so that another day is
    no other project. -#}
{% macro checked_since() -%}
    {{- return(env_var('OCTOPUS_CHECKED_SINCE', '') if execute else '') -}}
{%- endmacro %}

{#- A relation, or what is checked of it: of whole periods where one is named. By source too: that is what the indexes
    begin with. -#}
{% macro checked(relation, period=none) -%}
    {%- set days = {
        'prices': 'session', 'returns': 'session', 'daily_sentiment': 'session', 'bars_weekly': 'week',
        'bars_monthly': 'month', 'adjustment_factors': 'ex_session',
    } -%}
    {%- set since = "'" ~ checked_since() ~ "'::date" -%}
    {%- set day = days.get(relation.identifier) -%}
    {%- set unit = period or (day if day in ('week', 'month')) -%}
    {%- if not checked_since() -%}
    {{ relation }}
    {%- elif relation.identifier == 'stg_bars' -%}
    ({{ bar_versions(since, declared=false) }})
    {%- elif relation.identifier == 'stg_corporate_actions' -%}
    ({{ action_versions(since, declared=false) }})
    {%- elif relation.identifier == 'panel' -%}
    {#- A view over all of history, which holds nothing of its own: it is checked when everything is. -#}
    (select * from {{ relation }} where false)
    {%- elif day -%}
    {%- set instruments = api.Relation.create(schema='raw', identifier='instruments') -%}
    (
        select * from {{ relation }}
        where {% if relation.identifier != 'daily_sentiment' -%}
            source = any(array(select distinct source from {{ instruments }})) and
            {%- endif %}
            {{ day }} >= {{ "date_trunc('" ~ unit ~ "', " ~ since ~ ")::date" if unit else since }}
    )
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}

{#- dbt asks here what a generic test reads. -#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where') -%}
    {%- if where -%}
    (select * from {{ checked(relation) }} of_checked where {{ where }}) of_where
    {%- elif checked_since() -%}
    (select * from {{ checked(relation) }} of_checked) of_where
    {%- else -%}
    {{ relation }}
    {%- endif -%}
{%- endmacro %}
