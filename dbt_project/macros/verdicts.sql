{#- A batch of which no verdict was made yet is left to the next build (ops.unjudged), and so is every later one: a build
    goes up to one batch. As a literal where there is such a batch, so that on any other day nothing is compared; a view
    asks each time, in a form that leads no index astray: of most batches none is left out. -#}
{% macro judged(alias, in_view=false) -%}
    {%- if in_view -%}
    ({{ alias }}.batch_id >= (select min(u.batch_id) from ops.unjudged u)) is not true
    {%- else -%}
    {%- set found = run_query("select min(batch_id) from ops.unjudged") if execute else none -%}
    {%- set first = found.rows[0][0] if found is not none else none -%}
    {{ "true" if first is none else alias ~ ".batch_id < " ~ first }}
    {%- endif -%}
{%- endmacro %}

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
