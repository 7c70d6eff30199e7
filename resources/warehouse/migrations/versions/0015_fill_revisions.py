"""What a broker changes of a fill after the fact: trades that are broken or corrected, in our book and the paper
broker's ledger. Fills stay as they were first told; what changes them is a row of its own."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for schema in ("execution", "paper"):
        op.execute(_tables(schema, booked=schema == "execution"))
    op.execute(
        """
        -- What busts and corrections added to filled_quantity, which is what the broker would say now.
        alter table execution.orders add column revised_quantity numeric(28, 8) not null default 0;
        grant select on execution.fill_revisions, execution.current_fills, execution.fill_movements
            to octopus_research, octopus_trader;
        grant insert on execution.fill_revisions to octopus_trader;
        grant select on paper.fill_revisions, paper.current_fills, paper.fill_movements to octopus_trader;
        grant insert on paper.fill_revisions to octopus_trader;
        """
    )


def downgrade() -> None:
    revised = op.get_bind().exec_driver_sql(
        "select (select count(*) from execution.fill_revisions) + (select count(*) from paper.fill_revisions)"
    )
    if count := revised.scalar_one():
        raise RuntimeError(
            f"{count} busts or corrections have no place in revision 0014; back them up, delete them first"
        )
    op.execute("alter table execution.orders drop column revised_quantity")
    for schema in ("execution", "paper"):
        op.execute(f"drop view {schema}.fill_movements; drop view {schema}.current_fills; "
                   f"drop table {schema}.fill_revisions")  # fmt: skip


def _tables(schema: str, *, booked: bool) -> str:
    """``booked``: whether movements belong to sessions, of which each is booked once and for all."""
    session = "session date not null," if booked else ""
    fill_session, later_session = (", f.session", ", greatest(r.session, f.session)") if booked else ("", "")
    fill = "f.account, f.fill_id, f.client_order_id, f.instrument, f.side"
    return f"""
        create table {schema}.fill_revisions (
            account text not null,
            fill_id text not null,
            number integer not null check (number > 0),      -- the broker's order: the highest one counts
            client_order_id text not null,
            quantity numeric(28, 8) not null check (quantity >= 0),      -- zero: the trade was broken
            price numeric(28, 8) not null check (price > 0),
            fees numeric(28, 8) not null check (quantity > 0 or fees = 0),
            at timestamptz not null,                          -- of the revision
            {session}
            replaces integer,                                 -- the version it took the place of, 0: the fill as told;
                                                              -- null where a later one had been told before it
            reason text not null,
            primary key (account, fill_id, number)
        );

        -- Each fill as it counts now; broken trades are absent.
        create view {schema}.current_fills as
        select {fill}, coalesce(r.quantity, f.quantity) as quantity, coalesce(r.price, f.price) as price,
            coalesce(r.fees, f.fees) as fees, f.at{fill_session}
        from {schema}.fills f
        left join {schema}.fill_revisions r on r.account = f.account and r.fill_id = f.fill_id and r.number = (
            select max(n.number) from {schema}.fill_revisions n where n.account = f.account and n.fill_id = f.fill_id)
        where coalesce(r.quantity, f.quantity) > 0;

        -- What each fill and revision moved, when: what a revision replaces is taken back as a trade of the other side.
        create view {schema}.fill_movements as
        select {fill}, 0 as number, f.quantity, f.price, f.fees, f.at{fill_session} from {schema}.fills f
        union all
        select {fill}, r.number, r.quantity, r.price, r.fees, greatest(r.at, f.at){later_session}
        from {schema}.fill_revisions r join {schema}.fills f using (account, fill_id)
        where r.replaces is not null and r.quantity > 0
        union all
        select f.account, f.fill_id, f.client_order_id, f.instrument, case f.side when 'buy' then 'sell' else 'buy' end,
            -r.number, coalesce(p.quantity, f.quantity), coalesce(p.price, f.price), -coalesce(p.fees, f.fees),
            greatest(r.at, f.at){later_session}
        from {schema}.fill_revisions r join {schema}.fills f using (account, fill_id)
        left join {schema}.fill_revisions p
            on p.account = r.account and p.fill_id = r.fill_id and p.number = r.replaces
        where r.replaces is not null and coalesce(p.quantity, f.quantity) > 0;
    """  # noqa: S608  # names of ours alone
