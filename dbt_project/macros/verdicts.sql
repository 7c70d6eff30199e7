{#- A bar that a new verdict keeps out since the very time it was known has no version left that could replace the stored
    one, so the stored one is deleted; versions that were seen for a time are built again by the run itself. -#}
{% macro drop_rows_kept_out() -%}
    {% if is_incremental() -%}
    delete from {{ this }} p
    using {{ source('raw', 'bar_verdicts') }} v
    where v.excluded and {{ since_last_build('v') }}
        and p.source = v.source and p.instrument = v.instrument and p.session = v.session
    {%- endif %}
{%- endmacro %}
