{#- Each combination of `columns` is a row of `to`. -#}
{% test found_in(model, columns, to) %}
select distinct {{ columns | join(', ') }} from {{ model }}
except
select {{ columns | join(', ') }} from {{ to }}
{% endtest %}
