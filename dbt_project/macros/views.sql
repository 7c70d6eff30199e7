{#
  How a view is made: in place. dbt would put a new view in the old one's place and drop that with everything that stands
  on it, and two threads that each drop a view under the same third one wait for each other until the server ends one of
  them. In place it is never absent, and what stands on it stays. A view whose columns went, or became others, is dropped
  with what stands on it, which is built after it.
#}
{% materialization view, adapter='postgres' %}
  {%- set target = this.incorporate(type='view') -%}
  {%- set existing = load_cached_relation(this) -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {%- if existing is not none and not existing.is_view -%}
    {{ drop_relation_if_exists(existing) }}
  {%- endif -%}
  {%- set create = get_create_view_as_sql(target, sql) -%}
  {% call statement('main') -%}
    do $made$
    begin
      execute $view${{ create | replace('create view', 'create or replace view', 1) }}$view$;
    exception when invalid_table_definition then
      drop view {{ target }} cascade;
      execute $view${{ create }}$view$;
    end
    $made$
  {%- endcall %}
  {% do apply_grants(target, config.get('grants'), should_revoke=should_revoke(existing, full_refresh_mode=True)) %}
  {% do persist_docs(target, model) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [target]}) }}
{% endmaterialization %}
