-- Branches of two-phase commit: a row is written in the branch's own transaction as its last statement, so that whoever sees it knows that the
-- branch is committed. A branch that is lost is written down by somebody else, so that its own late row cannot come.
CREATE TABLE :"schema".branches (
    gid          text        PRIMARY KEY,  -- sagamq/{cluster}/{instance}/{branch}, also the name of the prepared transaction
    is_committed boolean     NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
