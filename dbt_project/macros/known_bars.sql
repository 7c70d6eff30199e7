{#- Which bar counts for an event at each time: of its candidates the first one that was seen then, or the last.

    ``events`` (key, known_from, known_to) and ``candidates`` (key, session, close, seen_from, seen_to, batch_id) are names
    of common tables; an interval without an end has a null. The answer has key, session, close, batch_id, known_from and
    known_to: a row for each change of the bar or its close within the event's own time; no bar, no session. -#}
{% macro bar_as_known(events, candidates, last=false) %}
    select
        turns.key,
        turns.session,
        turns.close,
        turns.batch_id,
        turns.instant as known_from,
        coalesce(lead(turns.instant) over (partition by turns.key order by turns.instant), e.known_to) as known_to
    from (
        select
            *,
            row_number() over moments = 1
            or session is distinct from lag(session) over moments
            or close is distinct from lag(close) over moments as is_turn
        from (
            select distinct on (i.key, i.instant) i.key, i.instant, c.session, c.close, c.batch_id
            from (
                select key, known_from as instant from {{ events }}
                union
                select c.key, edge.instant
                from {{ candidates }} c
                join {{ events }} e using (key)
                cross join lateral (values (c.seen_from), (c.seen_to)) as edge (instant)
                where edge.instant > e.known_from and (e.known_to is null or edge.instant < e.known_to)
            ) i
            left join {{ candidates }} c
                on c.key = i.key and c.seen_from <= i.instant and (c.seen_to is null or c.seen_to > i.instant)
            order by i.key, i.instant, c.session {{ 'desc nulls last' if last }}
        ) seen
        window moments as (partition by key order by instant)
    ) turns
    join {{ events }} e using (key)
    where turns.is_turn
{% endmacro %}
