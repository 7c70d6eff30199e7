{#- A model's schema is the one it names, verbatim: the asset key [schema, table] is the table's address. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
