{#- The roles of the warehouse may read what dbt builds, from the moment a relation exists; a reader the marts alone. -#}
{% macro open_schemas_to_readers() %}
    {% set schemas = 'staging, intermediate, marts' %}
    {% set readers = 'octopus_research, octopus_trader' %}
    create schema if not exists staging;
    create schema if not exists intermediate;
    create schema if not exists marts;
    grant usage on schema {{ schemas }} to {{ readers }};
    alter default privileges in schema {{ schemas }} grant select on tables to {{ readers }};
    grant usage on schema marts to octopus_reader;
    alter default privileges in schema marts grant select on tables to octopus_reader;
{% endmacro %}
