{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'week'],
    on_schema_change='fail',
    pre_hook=["{{ drop_rows_kept_out('week', 'week') }}", "{{ join_by_hashing() }}"],
    indexes=[
        {'columns': ['source', 'instrument', 'week', 'permanent_id', 'known_from'], 'unique': true},
        {'columns': ['source', 'week']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{{ period_bars('week') }}
