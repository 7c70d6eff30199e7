{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'week'],
    on_schema_change='fail',
    pre_hook=["{{ join_by_hashing() }}", "{{ drop_rows_kept_out('week', 'week') }}"],
    indexes=[
        {'columns': ['source', 'instrument', 'week', 'known_from'], 'unique': true},
        {'columns': ['source', 'week']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{{ period_bars('week') }}
