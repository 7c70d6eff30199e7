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
