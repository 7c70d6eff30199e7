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
