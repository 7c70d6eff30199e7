{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['source', 'instrument', 'week'],
    on_schema_change='fail',
    indexes=[
        {'columns': ['source', 'instrument', 'week', 'known_from'], 'unique': true},
        {'columns': ['source', 'week']},
        {'columns': ['source', 'batch_id']},
    ],
) }}
{{ period_bars('week') }}
