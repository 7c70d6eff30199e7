-- What was asked of each source in the current window of each of its limits: one row for each, reused by later windows.

create table ops.source_budgets (
    source text not null,
    window_s integer not null check (window_s between 1 and 86400),
    window_start timestamptz not null,
    used integer not null check (used >= 1),
    allowed integer not null check (allowed >= 1),
    primary key (source, window_s)
);
comment on table ops.source_budgets is
    'Requests sent to a source in its current window of window_s seconds; 86400: a day in the vendor''s reset time zone';
grant select, insert, update on ops.source_budgets to octopus_research, octopus_trader;
grant delete on ops.source_budgets to octopus_research;
