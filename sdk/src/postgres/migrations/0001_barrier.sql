-- The barrier: what became of each call of a saga, written in the transaction of the business writes.
CREATE TABLE :"schema".barrier (
    instance  uuid     NOT NULL,
    step      text     NOT NULL,
    item      bigint   NOT NULL,  -- -1: the step does not fan out
    operation smallint NOT NULL,  -- 1 action, 2 compensation
    kind      smallint NOT NULL,  -- 0 nothing yet (never committed), 1 succeeded, 2 refused, 3 prevented, 4 in doubt, 5 the watermark
    at_ms     bigint   NOT NULL,  -- when it was recorded; of the watermark: rows recorded before it may have been deleted
    payload   text,               -- 1: the output, JSON; 2: the failure, JSON; 4: the run that began last, a UUID
    PRIMARY KEY (instance, step, item, operation)
);
-- The watermark: no step has an empty name.
INSERT INTO :"schema".barrier VALUES ('00000000-0000-0000-0000-000000000000', '', -1, 0, 5, 0, NULL);
