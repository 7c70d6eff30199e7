{#- At no time are two versions of one `key` seen together, and no version ends before it begins (one that is kept out
    ends as it begins). -#}
{% test known_times_disjoint(model, key, known_from='known_from') %}
select *
from (
    select
        {{ key | join(', ') }},
        {{ known_from }} as seen_from,
        known_to as seen_to,
        lead({{ known_from }}) over (
            partition by {{ key | join(', ') }} order by {{ known_from }}
        ) as next_from
    from {{ model }}
) versions
where seen_to < seen_from or next_from < coalesce(seen_to, 'infinity')
{% endtest %}
