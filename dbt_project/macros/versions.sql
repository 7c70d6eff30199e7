{#- What was known when. A version is seen as of T if known_from <= T < known_to. -#}

{#- When a version stops being seen: when any later batch's version of the same key is known. Earlier than the
    version's own known_at, or equal to it, it was never seen at all. -#}
{% macro superseded_at(key) -%}
    min(known_at) over (
        partition by {{ key | join(', ') }}
        order by batch_id desc, ingested_at desc
        rows between unbounded preceding and 1 preceding
    )
{%- endmacro %}

{% macro was_ever_seen() -%}
    (known_to is null or known_to > known_from)
{%- endmacro %}

{#- Two versions, by their aliases, were seen together at some time. -#}
{% macro seen_together(one, other) -%}
    ({{ one }}.known_to is null or {{ other }}.known_from < {{ one }}.known_to)
    and ({{ other }}.known_to is null or {{ other }}.known_to > {{ one }}.known_from)
{%- endmacro %}

{#- The version, by its alias, was seen at an instant. -#}
{% macro seen_at(version, instant) -%}
    {{ version }}.known_from <= {{ instant }} and ({{ version }}.known_to is null or {{ version }}.known_to > {{ instant }})
{%- endmacro %}

{#- A product of ratios. Rounded, because logarithms are not exact; a single ratio never comes here. -#}
{% macro product(value, condition) -%}
    round(exp(sum(ln({{ value }}::numeric(40, 20))) filter (where {{ condition }} and {{ value }} > 0)), 12)::double precision
{%- endmacro %}

{#- A vendor's rows and the verdicts on them, as far as they were judged: each is a version of its key. All of them, or of the
    sessions from ``since`` on (a date in SQL): what is built of a day reads a day. Not ``declared``: in a test of the view,
    which depends on the view alone. -#}
{% macro sent_and_judged(table, verdicts, columns, since=none, declared=true) %}
    {%- for name in (table, verdicts) %}
    select
        {{ columns }}, known_at, known_at_imputed, ingested_at, batch_id,
        {{ 'false as excluded' if name == table else 'excluded' }}
    from {{ source('raw', name) if declared else api.Relation.create(schema='raw', identifier=name) }} as sent
    where {{ judged('sent', in_view=not since) }}
    {%- if since %}
    -- By ts too, which chunks and keys go by: a session opens no earlier than its own day begins anywhere.
        and session >= {{ since }} and ts >= ({{ since }} - 1)::timestamp at time zone 'UTC'
    {%- endif %}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
{% endmacro %}
