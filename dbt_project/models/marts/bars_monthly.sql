{{ config(
    materialized='incremental',
    incremental_strategy='replace_keys',
    unique_key=['source', 'instrument', 'month'],
    on_schema_change='fail',
    pre_hook=["{{ drop_rows_kept_out('month', 'month') }}", "{{ join_by_hashing() }}"],
    indexes=[
        {'columns': ['source', 'instrument', 'month', 'permanent_id', 'known_from'], 'unique': true},
        {'columns': ['source', 'month']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{{ period_bars('month') }}
