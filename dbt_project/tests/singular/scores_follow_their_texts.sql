{{ config(meta={'dagster': {'ref': {'name': 'stg_sentiment_scores'}}}) }}
-- A score that is known before its text would let a decision read the future.
with texts as (
    select source, instrument, 'news' as item_kind, item_id, published_utc as text_utc, min(known_from) as known_from
    from {{ ref('stg_news') }}
    group by source, instrument, item_id, published_utc
    union all
    select source, instrument, 'post', item_id, created_utc, min(known_from)
    from {{ ref('stg_social_posts') }}
    group by source, instrument, item_id, created_utc
)

select s.*
from {{ ref('stg_sentiment_scores') }} s
join texts t using (source, instrument, item_kind, item_id, text_utc)
where s.known_from < t.known_from
