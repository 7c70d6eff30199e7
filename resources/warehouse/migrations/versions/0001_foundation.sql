-- The foundation: every table that Python writes. dbt owns staging, intermediate and marts.

create schema ops;
create schema raw;
create schema strategy;
create schema models;
create schema backtest;
create schema portfolio;
create schema risk;
create schema compliance;
create schema execution;
create schema audit;
create schema paper;

-- ops: batches, runs, the replay clock, quality findings ---------------------------------------------------------

-- One row, locked for the length of a write: batch numbers are handed out in commit order.
create table ops.batch_counter (
    one boolean primary key default true check (one),
    last_batch bigint not null
);
insert into ops.batch_counter (last_batch) values (0);

create table ops.batches (
    batch_id bigint primary key,
    table_name text not null,
    source text not null,
    recorded_at timestamptz not null,
    run_id text,
    payload_hash text,
    rows_new bigint not null,
    rows_restated bigint not null,
    rows_unchanged bigint not null,
    rows_quarantined bigint not null
);

create table ops.runs (
    run_id text primary key,
    as_of date not null,
    status text not null check (status in ('started', 'succeeded', 'failed')),
    started_at timestamptz not null,
    finished_at timestamptz,
    summary jsonb
);

-- The replay clock of recorded data: it only moves forward. On live data the wall clock rules and this stays empty.
create table ops.replay_clock (
    one boolean primary key default true check (one),
    session date not null,
    now_utc timestamptz not null
);

-- The exchange's calendar, written from the calendar library so that SQL and Python agree.
create table ops.sessions (
    exchange text not null,
    session date not null,
    open_utc timestamptz not null,
    close_utc timestamptz not null,
    decision_utc timestamptz not null,
    primary key (exchange, session)
);

create table ops.quality_findings (
    finding_id text primary key,
    source text not null,
    instrument text,
    kind text not null,
    severity text not null check (severity in ('info', 'warn', 'severe')),
    session_from date,
    session_to date,
    evidence jsonb not null,
    message text not null,
    remedy text not null,
    known_at timestamptz not null,
    ingested_at timestamptz not null
);

-- raw: bitemporal, append only -----------------------------------------------------------------------------------

create table raw.instruments (
    source text not null,
    instrument text not null,
    ts timestamptz not null,               -- valid from
    name text,
    exchange text not null,
    currency text not null,
    asset_class text not null,
    price_basis text not null check (price_basis in ('raw', 'total_return')),
    member_from date,
    member_to date,
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, ingested_at)
);

create table raw.bars (
    source text not null,
    instrument text not null,
    ts timestamptz not null,               -- close of the session, UTC
    session date not null,
    open double precision,
    high double precision,
    low double precision,
    close double precision not null,
    volume double precision,
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, ingested_at)
);

create table raw.corporate_actions (
    source text not null,
    instrument text not null,
    ts timestamptz not null,               -- open of the ex-session, UTC
    session date not null,                 -- ex-date
    kind text not null check (kind in ('split', 'dividend')),
    value double precision not null,       -- split: new shares for one old; dividend: cash for one share as of the ex-date
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, kind, ingested_at)
);

create table raw.news (
    source text not null,
    instrument text not null,
    ts timestamptz not null,               -- published
    item_id text not null,
    title text not null,
    body text,
    url text,
    publisher text,
    synthetic boolean not null,
    hindsight boolean not null,            -- selected in hindsight: never part of a published performance figure
    text_hash text not null,
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, item_id, ingested_at)
);

create table raw.social_posts (
    source text not null,
    instrument text not null,
    ts timestamptz not null,               -- created
    item_id text not null,
    author text,
    body text not null,
    url text,
    upvotes bigint,
    synthetic boolean not null,
    text_hash text not null,
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, item_id, ingested_at)
);

-- A score is known no earlier than its text: known_at is copied from it (or later, when the model ran later on live text).
create table raw.sentiment_scores (
    source text not null,                  -- of the text
    instrument text not null,
    ts timestamptz not null,               -- of the text
    item_id text not null,
    item_kind text not null check (item_kind in ('news', 'post')),
    model text not null,                   -- which model scored it, with its version
    text_hash text not null,
    score double precision not null check (score between -1 and 1),
    hindsight boolean not null,
    synthetic boolean not null,
    known_at timestamptz not null,
    known_at_imputed boolean not null,
    ingested_at timestamptz not null,
    batch_id bigint not null,
    row_hash text not null,
    primary key (source, instrument, ts, item_kind, item_id, model, ingested_at)
);

create table raw.quarantine (
    quarantine_id text primary key,        -- fingerprint of source, table, payload and reason: the same bad record counts once
    source text not null,
    table_name text not null,
    instrument text,
    reason text not null,
    payload jsonb not null,
    ingested_at timestamptz not null,
    batch_id bigint not null
);

-- strategy, models, backtest: research records, one set of rows per session or fingerprint ------------------------

create table strategy.features (
    session date not null,
    instrument text not null,
    feature text not null,
    value double precision,
    primary key (session, instrument, feature)
);

create table strategy.signals (
    session date not null,
    instrument text not null,
    signal text not null,                  -- momentum, mean_reversion, sentiment, model, ensemble
    value double precision,
    primary key (session, instrument, signal)
);

create table models.training_sets (
    fingerprint text primary key,
    as_of date not null,
    rows bigint not null,
    first_session date not null,
    last_session date not null,
    horizon_sessions integer not null,
    features jsonb not null,
    created_at timestamptz not null
);

create table models.walk_forward_folds (
    model text not null,
    fingerprint text not null,             -- of the training set and the model's settings
    fold integer not null,
    train_from date not null,
    train_to date not null,                -- last session whose label was known before test_from
    test_from date not null,
    test_to date not null,
    rank_ic double precision,
    artifact text not null,                -- MLflow artifact URI of the fold's model
    primary key (model, fingerprint, fold)
);

create table models.reviews (
    model text not null,
    fingerprint text not null,
    as_of date not null,
    version integer not null,              -- MLflow registered model version
    mlflow_run_id text not null,
    passed boolean not null,
    gates jsonb not null,
    scores jsonb not null,
    primary key (model, fingerprint)
);

-- Every move of the alias, as seen: session T uses the champion as of T.
create table models.champion_history (
    name text not null,
    alias text not null,
    version integer,                       -- null: the alias was taken away
    effective_from timestamptz not null,
    recorded_at timestamptz not null,
    appointed_by text not null,            -- policy, or person through MLflow
    primary key (name, alias, effective_from)
);

create table models.predictions (
    session date not null,
    instrument text not null,
    model text not null,                   -- name:version or name:fold-k
    value double precision not null,
    primary key (session, instrument)
);

create table backtest.runs (
    fingerprint text primary key,
    as_of date not null,
    strategy text not null,
    first_session date not null,
    last_session date not null,
    metrics jsonb not null,
    settings jsonb not null,
    created_at timestamptz not null
);

create table backtest.daily (
    fingerprint text not null references backtest.runs on delete cascade,
    session date not null,
    equity double precision not null,
    cash double precision not null,
    gross_return double precision not null,
    net_return double precision not null,
    turnover double precision not null,
    costs double precision not null,
    primary key (fingerprint, session)
);

create table backtest.targets (
    fingerprint text not null references backtest.runs on delete cascade,
    session date not null,
    instrument text not null,
    weight double precision not null,
    primary key (fingerprint, session, instrument)
);

-- portfolio, risk, compliance: what leads to a batch ---------------------------------------------------------------

create table portfolio.target_weights (
    session date not null,
    instrument text not null,
    weight double precision not null,
    alpha double precision,
    decision_id text not null,
    primary key (session, instrument)
);

create table portfolio.decisions (
    decision_id text primary key,
    session date not null,
    model text,                            -- which model's predictions it used; null when the model signal abstained
    certificate jsonb not null,
    inputs jsonb not null,                 -- fingerprints of panel, configuration, predictions, opening weights
    created_at timestamptz not null
);

create table portfolio.opening_positions (
    snapshot_id text not null,
    account text not null,
    session date not null,
    taken_at timestamptz not null,
    instrument text not null,              -- '' for the row that carries the cash alone
    quantity numeric(28, 8) not null,
    price numeric(28, 8) not null,
    cash numeric(28, 8) not null,
    equity numeric(28, 8) not null,
    primary key (snapshot_id, instrument)
);

create table portfolio.batches (
    batch_id text primary key,
    account text not null,
    session date not null,
    decision_id text not null,
    snapshot_id text not null,
    not_before timestamptz not null,
    expires_at timestamptz not null,
    superseded_by text,
    created_at timestamptz not null
);

create table portfolio.rebalance_plan (
    batch_id text not null references portfolio.batches,
    intent_id text not null unique,
    instrument text not null,
    side text not null check (side in ('buy', 'sell')),
    quantity numeric(28, 8) not null check (quantity > 0),
    reference_price numeric(28, 8) not null check (reference_price > 0),
    order_type text not null,
    primary key (batch_id, instrument)
);

create table risk.limit_report (
    batch_id text not null references portfolio.batches,
    seq integer not null,
    rule text not null,
    intent_id text,
    outcome text not null,
    value double precision,
    limit_value double precision,
    reason text not null,
    primary key (batch_id, seq)
);

create table compliance.pretrade_report (
    batch_id text not null references portfolio.batches,
    seq integer not null,
    rule text not null,
    intent_id text,
    outcome text not null,
    value double precision,
    limit_value double precision,
    reason text not null,
    primary key (batch_id, seq)
);

-- A batch may be executed only after both gates of research have spoken.
create table compliance.approvals (
    batch_id text primary key references portfolio.batches,
    approved integer not null,
    denied integer not null,
    risk_hash text not null,
    compliance_hash text not null,
    created_at timestamptz not null
);

-- execution: written by the trader role alone ----------------------------------------------------------------------

create table execution.trading_state (
    account text primary key,
    state text not null check (state in ('active', 'reducing', 'halted')),
    reason text not null,
    changed_by text not null,
    changed_at timestamptz not null,
    database_id text not null              -- execution.database_id() when it was set: elsewhere the row is a restored copy
);

-- Cluster, timeline and database: a restored or copied database has another one, and trading in it starts halted.
create function execution.database_id() returns text language sql stable as $$
    select concat_ws('.', s.system_identifier, c.timeline_id, d.oid)
    from pg_control_system() s, pg_control_checkpoint() c, pg_database d where d.datname = current_database()
$$;

-- One row per account: who may send now. A higher fence ends every lower one.
create table execution.leases (
    account text primary key,
    fence bigint not null,
    holder text not null,
    expires_at timestamptz not null
);

create table execution.attempts (
    batch_id text not null,
    attempt integer not null,
    account text not null,
    fence bigint not null,
    status text not null check (status in ('claimed', 'done', 'abandoned')),
    run_id text not null,
    claimed_at timestamptz not null,
    finished_at timestamptz,
    primary key (batch_id, attempt)
);

-- The broker's snapshot that an attempt was judged with.
create table execution.snapshots (
    batch_id text not null,
    attempt integer not null,
    account text not null,
    taken_at timestamptz not null,
    snapshot jsonb not null,
    primary key (batch_id, attempt)
);

-- Runs that set out to execute a batch, claimed or not: the sensor numbers its run keys by them.
create table execution.launches (
    batch_id text not null,
    run_id text not null,
    first_seen timestamptz not null,       -- wall clock
    last_seen timestamptz not null,
    primary key (batch_id, run_id)
);

create table execution.verdicts (
    batch_id text not null,
    attempt integer not null,
    seq integer not null,
    gate text not null,
    rule text not null,
    intent_id text,
    outcome text not null,
    value double precision,
    limit_value double precision,
    reason text not null,
    primary key (batch_id, attempt, seq)
);

create table execution.order_intents (
    intent_id text primary key,
    batch_id text not null,
    account text not null,
    session date not null,
    instrument text not null,
    side text not null check (side in ('buy', 'sell')),
    quantity numeric(28, 8) not null check (quantity > 0),
    reference_price numeric(28, 8) not null,
    order_type text not null,
    client_order_id text not null unique,
    status text not null check (status in ('approved', 'denied', 'void')),
    created_at timestamptz not null
);

create table execution.orders (
    client_order_id text primary key,
    intent_id text not null unique references execution.order_intents,
    account text not null,
    state text not null check (state in ('approved', 'submitting', 'accepted', 'partially_filled', 'filled',
                                         'rejected', 'cancelled', 'expired', 'unknown')),
    broker_order_id text,
    filled_quantity numeric(28, 8) not null default 0,
    fence bigint not null,
    reason text,
    submitted_at timestamptz,
    updated_at timestamptz not null
);

create index orders_by_state on execution.orders (account, state);
create index order_intents_by_batch on execution.order_intents (batch_id);

create table execution.order_events (
    event_id bigint generated always as identity primary key,
    client_order_id text not null,
    from_state text,
    to_state text not null,
    at timestamptz not null,
    fence bigint not null,
    detail jsonb not null
);

create table execution.fills (
    account text not null,
    fill_id text not null,
    client_order_id text not null,
    instrument text not null,
    side text not null,
    quantity numeric(28, 8) not null check (quantity > 0),
    price numeric(28, 8) not null check (price > 0),
    fees numeric(28, 8) not null,
    at timestamptz not null,
    session date not null,
    primary key (account, fill_id)
);

create index fills_by_order on execution.fills (client_order_id);

-- Movements of cash or shares that are not fills, as our own book knows them: flows we recognised, actions we expected.
create table execution.entries (
    account text not null,
    entry_id text not null,
    kind text not null check (kind in ('deposit', 'withdrawal', 'dividend', 'split', 'manual')),
    instrument text,
    quantity numeric(28, 8) not null,
    cash numeric(28, 8) not null,
    at timestamptz not null,
    session date not null,
    note text not null,
    primary key (account, entry_id)
);

-- Our own book, derived from fills and recognised flows; compared with the broker's by reconciliation.
create table execution.positions (
    account text not null,
    session date not null,
    instrument text not null,
    quantity numeric(28, 8) not null,
    price numeric(28, 8),
    primary key (account, session, instrument)
);

create table execution.nav (
    account text not null,
    session date not null,
    opening numeric(28, 8) not null,
    price_pnl numeric(28, 8) not null,
    fees numeric(28, 8) not null,
    dividends numeric(28, 8) not null,
    flows numeric(28, 8) not null,
    closing numeric(28, 8) not null,
    cash numeric(28, 8) not null,
    primary key (account, session)
);

create table execution.reconciliation (
    account text not null,
    session date not null,
    seq integer not null,                  -- 0 is the summary row (kind 'ok' or 'breaks')
    kind text not null,                    -- quantity, price, fee, cash, split, manual_trade, missing_fill, ...
    instrument text,
    ours numeric(28, 8),
    brokers numeric(28, 8),
    detail text not null,
    at timestamptz not null,
    primary key (account, session, seq)
);

-- What the audit log must still be told: written with the change, moved to audit.log in a transaction of its own.
create table execution.outbox (
    outbox_id bigint generated always as identity primary key,
    kind text not null,
    subject text not null,
    payload jsonb not null
);

-- audit: append only, hash-chained -----------------------------------------------------------------------------------

create table audit.log (
    seq bigint primary key,
    at timestamptz not null,
    kind text not null,
    subject text not null,
    payload text not null,                 -- canonical JSON, exactly the bytes that were hashed
    prev_hash text not null,
    hash text not null
);
create function audit.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit.log is append-only: % refused', tg_op;
end $$;
create trigger log_is_append_only before update or delete or truncate on audit.log
    for each statement execute function audit.refuse_change();

-- paper: the paper broker's own ledger; nothing but the paper broker reads or writes it --------------------------------

create table paper.accounts (
    account text primary key,
    account_number text not null unique,
    currency text not null,
    opened_at timestamptz not null,
    fractional boolean not null,
    settled_until timestamptz not null     -- auctions and corporate actions up to here are in the ledger
);

create table paper.orders (
    broker_order_id text primary key,
    account text not null references paper.accounts,
    client_order_id text not null,
    instrument text not null,
    side text not null,
    quantity numeric(28, 8) not null check (quantity > 0 or state = 'rejected'),
    order_type text not null,
    state text not null,
    reason text,
    filled_quantity numeric(28, 8) not null default 0,
    mark_price numeric(28, 8),             -- latest price at acceptance: buying power reckons with it
    accepted_at timestamptz not null,
    expires_at timestamptz not null,
    unique (account, client_order_id)
);

create table paper.fills (
    fill_id text primary key,
    broker_order_id text not null references paper.orders,
    account text not null,
    client_order_id text not null,
    instrument text not null,
    side text not null,
    quantity numeric(28, 8) not null,
    price numeric(28, 8) not null,
    fees numeric(28, 8) not null,
    at timestamptz not null
);
create index fills_by_account on paper.fills (account, at);

-- Every movement of cash or shares that is not a fill: deposits, dividends, splits, manual corrections.
create table paper.entries (
    entry_id text primary key,
    account text not null references paper.accounts,
    kind text not null check (kind in ('deposit', 'withdrawal', 'dividend', 'split', 'manual')),
    instrument text,
    quantity numeric(28, 8) not null default 0,
    cash numeric(28, 8) not null default 0,
    at timestamptz not null,
    note text not null
);

-- roles: execution is written by the trader alone ------------------------------------------------------------------
do $$
begin
    if not exists (select from pg_roles where rolname = 'octopus_research') then create role octopus_research nologin; end if;
    if not exists (select from pg_roles where rolname = 'octopus_trader') then create role octopus_trader nologin; end if;
end $$;
grant usage on schema ops, raw, strategy, models, backtest, portfolio, risk, compliance, execution, audit to octopus_research, octopus_trader;
grant usage on schema paper to octopus_trader;
grant select on all tables in schema ops, raw, strategy, models, backtest, portfolio, risk, compliance, execution, audit to octopus_research, octopus_trader;
grant insert, update, delete on all tables in schema ops, strategy, models, backtest, portfolio, risk, compliance to octopus_research;
grant insert on all tables in schema raw to octopus_research;
grant insert on audit.log to octopus_research, octopus_trader;
grant insert, update, delete on all tables in schema execution to octopus_trader;
grant usage on all sequences in schema execution to octopus_trader;
grant insert, update on ops.replay_clock to octopus_trader;
grant select, insert, update, delete on all tables in schema paper to octopus_trader;
