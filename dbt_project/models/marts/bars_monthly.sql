{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'month'],
    on_schema_change='fail',
    pre_hook=["{{ join_by_hashing() }}", "{{ drop_rows_kept_out('month', 'month') }}"],
    indexes=[
        {'columns': ['source', 'instrument', 'month', 'known_from'], 'unique': true},
        {'columns': ['source', 'month']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{{ period_bars('month') }}
