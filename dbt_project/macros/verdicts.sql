{#- A bar that a new verdict keeps out since the very time it was known has no version left that could replace the stored
    one, so the stored one is deleted; versions that were seen for a time are built again by the run itself. -#}
{% macro drop_rows_kept_out() -%}
    {% if is_incremental() -%}
    with stored as (
        select source, max(batch_id) as batch_id from {{ this }} group by source
    )

    delete from {{ this }} p
    using {{ source('raw', 'bar_verdicts') }} v
    join stored using (source)
    where v.excluded and v.batch_id > stored.batch_id
        and p.source = v.source and p.instrument = v.instrument and p.session = v.session
    {%- endif %}
{%- endmacro %}
