{#- Within one `key` there is a single value of the column. -#}
{% test one_value_per(model, column_name, key) %}
select {{ key | join(', ') }}, count(distinct {{ column_name }}) as distinct_values
from {{ model }}
group by {{ key | join(', ') }}
having count(distinct {{ column_name }}) > 1
{% endtest %}
