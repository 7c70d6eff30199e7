{{ config(meta={'dagster': {'ref': {'name': 'prices'}}}) }}
-- The current price is the last batch's bar of that session: nothing is lost, however late it came, but what a
-- verdict keeps out.
with bars as (
    select source, instrument, session, close from {{ checked(ref('stg_bars')) }} versions
    where known_to is null and excluded is not true
),

current_prices as (
    select source, instrument, session, close from {{ checked(ref('prices')) }} versions
    where known_to is null
)

select *
from bars
full join current_prices using (source, instrument, session)
where bars.close is distinct from current_prices.close
