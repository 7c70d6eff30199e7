"""Models of single folds, the name of a reviewed version, drift of features and predictions, challengers in shadow."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- Null in reviews of before it was kept: versions count by name.
        alter table models.reviews add column registered_name text;

        create table models.fold_models (
            fingerprint text not null,             -- of the training set and the models' settings
            model text not null,
            fold integer not null,
            content bytea not null,                -- as octopus.models.estimators reads it
            created_at timestamptz not null default now(),
            primary key (fingerprint, model, fold)
        );

        create table models.drift (
            session date not null,
            kind text not null check (kind in ('feature', 'prediction')),
            name text not null,                    -- of the feature, or of the model that speaks
            psi double precision,                  -- of the latest sessions against those of the training
            psi_usual double precision,            -- what nearly all stretches of the training stayed below
            ks double precision,
            sessions integer not null,             -- that were compared
            drifted boolean not null,
            primary key (session, kind, name)
        );

        create table models.shadow (
            session date not null,
            champion text not null,                -- name:version
            challenger text not null,
            sessions integer not null,             -- that neither had learnt from
            rank_correlation double precision,     -- of their scores, mean of the sessions
            today_rank_correlation double precision,
            champion_spread double precision,      -- hypothetical: top fifth less bottom fifth, mean of a session
            challenger_spread double precision,
            spread_t double precision,             -- t-statistic of challenger less champion
            primary key (session)
        );

        grant select on models.fold_models, models.drift, models.shadow to octopus_research, octopus_trader;
        grant insert on models.fold_models to octopus_research;
        grant insert, delete on models.drift, models.shadow to octopus_research;
        """
    )


def downgrade() -> None:
    op.execute("drop table models.shadow; drop table models.drift; drop table models.fold_models")
    op.execute("alter table models.reviews drop column registered_name")
