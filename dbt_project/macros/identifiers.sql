{#- A ticker is lent: nothing returns from one instrument that bore it to the next (ops.identifiers says who bore it). -#}

{#- Days from which a ticker is another instrument's than before. -#}
{% macro passed_on() %}
    select i.source, i.ticker, i.valid_from
    from ops.identifiers i
    where exists (
        select from ops.identifiers e
        where e.source = i.source and e.ticker = i.ticker and (e.valid_from is null or e.valid_from < i.valid_from)
    )
{%- endmacro %}

{#- Who bore each ticker from which day on until before which. A ticker's first bearer had it since ever, and its last one
    has it for good, as octopus/market_data/identifiers.py takes the days that no span holds. -#}
{% macro bearers() %}
    select
        source,
        ticker,
        permanent_id,
        case when lag(permanent_id) over spans is null then '-infinity' else valid_from end as from_day,
        coalesce(lead(valid_from) over spans, 'infinity') as until_day
    from ops.identifiers
    window spans as (partition by source, ticker order by valid_from nulls first)
{%- endmacro %}

{#- Between a bar and the one before it the ticker was passed on. -#}
{% macro returns_across(bar, passed) -%}
    {{ passed }}.source = {{ bar }}.source and {{ passed }}.ticker = {{ bar }}.instrument
        and {{ bar }}.session >= {{ passed }}.valid_from and {{ bar }}.previous_session < {{ passed }}.valid_from
{%- endmacro %}

{#- A rename or delisting may be told only after such a return was built. -#}
{% macro drop_returns_across() -%}
    {% if is_incremental() -%}
    delete from {{ this }} t using ({{ passed_on() }}) p where {{ returns_across('t', 'p') }}
    {%- endif %}
{%- endmacro %}
