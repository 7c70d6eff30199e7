"""The trial ledger: every strategy, model and parameter set that was looked at, for good."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        create table backtest.trials (
            trial_id text primary key,             -- of parameters, source and first session; not of the name
            recorded_at timestamptz not null default now(),
            kind text not null check (kind in ('model', 'search', 'backtest', 'sweep')),
            name text not null,                    -- as its user called it then
            parameters jsonb not null,
            source text not null,
            first_session date not null,
            last_session date not null check (last_session >= first_session),
            returns real[] not null                -- net, of each session up to the last one
        );
        create index trials_window on backtest.trials (source, last_session);

        create function backtest.trials_are_kept() returns trigger language plpgsql as $$
        begin
            raise exception 'backtest.trials is append-only: a trial that was made cannot be unmade';
        end $$;
        revoke execute on function backtest.trials_are_kept() from public;
        create trigger kept before update or delete on backtest.trials
            for each row execute function backtest.trials_are_kept();
        create trigger kept_whole before truncate on backtest.trials
            for each statement execute function backtest.trials_are_kept();

        grant select on backtest.trials to octopus_research, octopus_trader;
        grant insert on backtest.trials to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table backtest.trials; drop function backtest.trials_are_kept();")
