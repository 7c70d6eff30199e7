{#- `expression` is true of each row; unknown (null) breaks no rule. -#}
{% test holds(model, expression) %}
select *
from {{ model }}
where not ({{ expression }})
{% endtest %}
