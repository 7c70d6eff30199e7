{#- What has arrived since a model was built last, so that a day costs a day and not all of history.

    Batches are numbered in commit order over all sources, so what is above the greatest number that a source has stored
    is what is new of it. The numbers and the first session are asked for beforehand: as literals they reach the scans,
    where as joins they would only be applied to all that was ever stored. -#}

{#- By source, what of a relation with source and batch_id is above the greatest batch in this model. -#}
{% macro since_last_build(alias) -%}
    {%- set found = run_query(
        "select s.source, coalesce((select max(t.batch_id) from " ~ this ~ " t where t.source = s.source), 0)"
        ~ " from (select distinct source from raw.instruments) s order by 1"
    ) -%}
    {%- for row in found.rows %}
    {{ "(" if loop.first else "or " }}({{ alias }}.source = '{{ row[0] }}' and {{ alias }}.batch_id > {{ row[1] }})
    {%- if loop.last %}) and {{ judged(alias) }}{% endif -%}
    {%- else -%}
    false
    {%- endfor -%}
{%- endmacro %}

{#- Up to which batch this build goes, and from which session on something arrived until then, as literals: of anyone
    (``since``), and of most (``recent``), so that one bar of long ago does not have all of history read.

    All come of one statement: what is committed while the model runs is left to the next run whole, so a build leaves
    out every row above that batch. Materialised, or the least session would be looked for from the first bar on. -#}
{% macro build_bounds(arrived) -%}
    {%- set found = run_query(
        "with arrived as materialized (" ~ arrived ~ "), "
        ~ "begun as (select min(session) as session from arrived group by source, instrument) "
        ~ "select coalesce((select max(batch_id) from arrived), 0), coalesce(min(session), 'infinity')::text, "
        ~ "coalesce(percentile_disc(0.25) within group (order by session), 'infinity')::text from begun"
    ) -%}
    {{ return({
        "last_batch": found.rows[0][0],
        "since": "'" ~ found.rows[0][1] ~ "'::date",
        "recent": "'" ~ found.rows[0][2] ~ "'::date",
    }) }}
{%- endmacro %}

{#- From which session on each instrument is built again: a bar or an action changes nothing before its own. -#}
{% macro changed_from(arrived) %}
    select source, instrument, min(session) as from_session
    from ({{ arrived }}
    ) arrived
    group by source, instrument
{%- endmacro %}

{#- How much arrived the planner guesses far too low: a loop over all of it, or a merge on the source alone, would cost
    thousands of times what a hash does. -#}
{% macro join_by_hashing() -%}
    set local enable_nestloop = off; set local enable_mergejoin = off
{%- endmacro %}

{#- The same where years of everyone arrived at once: all of history when it is built first, or as the batches count them.
    A day is looked up key by key. -#}
{% macro join_much_by_hashing() -%}
    {%- if execute and not is_incremental() -%}
    {#- In memory: spilled, a hash would hand the rows on in no order, and each instrument's would lie all over the mart. #}
    {{ join_by_hashing() }}; set local work_mem = '64MB'
    {%- elif execute -%}
    {%- set found = run_query(
        "select coalesce(sum(b.rows_new + b.rows_restated), 0) >= 100000 from ops.batches b"
        ~ " where b.table_name = 'raw.bars' and " ~ since_last_build('b')
    ) -%}
    {%- if found.rows[0][0] %}{{ join_by_hashing() }}{% endif -%}
    {%- endif -%}
{%- endmacro %}

{#- dbt asks here how the strategy `replace_keys` stores what was built: as its delete+insert does, for a day at a day's
    cost. A key begins with whose rows it is of and ends with their day, and an index has just these two. Where the mart
    holds hardly more between the first and the last day than was built now, which is so of every ordinary day, it is read
    by that index, all rows side by side; else key by key, each on a page of its own. -#}
{% macro get_incremental_replace_keys_sql(arg_dict) %}
    {%- set target, built, keys = arg_dict.target_relation, arg_dict.temp_relation, arg_dict.unique_key -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute="name")) -%}
    {%- set spans = run_query(
        "select " ~ keys[0] ~ ", min(" ~ keys[-1] ~ ")::text, max(" ~ keys[-1] ~ ")::text, count(*) from " ~ built
        ~ " group by 1 order by 1"
    ).rows -%}
    {%- set within -%}
        (false
        {%- for whose, first, last, _ in spans %}
        or ({{ keys[0] }} = '{{ whose | replace("'", "''") }}' and {{ keys[-1] }} between '{{ first }}' and '{{ last }}')
        {%- endfor %})
    {%- endset -%}
    {%- set most = 2 * (spans | map(attribute=3) | sum) -%}
    {%- set held = run_query(
        "select count(*) from (select from " ~ target ~ " where " ~ within ~ " limit " ~ (most + 1) ~ ") held"
    ).rows[0][0] if spans else 0 -%}
    {%- if held > most %}
    analyze {{ built }};
    set local enable_nestloop = on;
    set local random_page_cost = 1.1;
    {%- elif held %}
    {{ join_by_hashing() }};
    {%- endif %}
    {%- if held %}
    delete from {{ target }}
    where {% if held <= most %}{{ within }} and {% endif %}({{ keys | join(', ') }}) in (select {{ keys | join(', ') }} from {{ built }});
    {%- endif %}
    insert into {{ target }} ({{ columns }}) select {{ columns }} from {{ built }}
{% endmacro %}

{#- What the planner is told of a mart that was just built: without statistics the next model would be planned blindly.
    Of one that has some a small sample, which costs the same however much there is: it tells how far sessions and batches
    go by now, and the server gathers all the rest by itself when a tenth has changed. -#}
{% macro tell_the_planner() -%}
    {%- if execute -%}
    {%- set found = run_query(
        "select exists (select from pg_stats where schemaname = '" ~ this.schema ~ "' and tablename = '"
        ~ this.identifier ~ "')"
    ) -%}
    {%- if found.rows[0][0] %}set local default_statistics_target = 10; {% endif -%}
    {%- endif -%}
    analyze {{ this }}
{%- endmacro %}
