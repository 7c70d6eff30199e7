{{ config(indexes=[{'columns': ['source', 'instrument', 'valid_from', 'known_from'], 'unique': true}]) }}
-- A description holds from its valid_from until the next one of the same instrument, as far as that was known. One whose
-- stay ends before it begins is a stay that was withdrawn, and holds for no time.
with versions as (
    select * from {{ ref('stg_instruments') }} where {{ was_ever_seen() }}
),

instants as (
    select distinct source, instrument, known_from as instant from versions
),

states as (
    select *, lead(instant) over (partition by source, instrument order by instant) as next_instant
    from instants
),

described as (
    select
        v.*,
        s.instant,
        s.next_instant,
        lead(v.valid_from) over (
            partition by s.source, s.instrument, s.instant order by v.valid_from
        ) as next_valid_from
    from states s
    join versions v
        on v.source = s.source and v.instrument = s.instrument and {{ seen_at('v', 's.instant') }}
        and (v.member_to < v.member_from) is not true
),

spans as (
    select
        d.source,
        d.instrument,
        d.valid_from,
        d.name,
        d.exchange,
        d.currency,
        d.asset_class,
        d.price_basis,
        d.lot_size,
        d.tick_size,
        d.member_from,
        least(d.member_to, case when d.next_valid_from is not null then coalesce((
            select max(s.session) from {{ source('ops', 'sessions') }} s
            where s.exchange = d.exchange and s.open_utc < d.next_valid_from
        ), (d.next_valid_from at time zone 'UTC')::date - 1) end) as member_to,
        d.instant as known_from,
        d.next_instant as known_to,
        d.batch_id
    from described d
)

select * from spans
where member_from is null or member_to is null or member_from <= member_to
