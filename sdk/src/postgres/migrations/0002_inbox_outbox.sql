-- The inbox: which records a consumer has handled, written in the transaction of what it did.
CREATE TABLE :"schema".inbox (
    consumer      text   NOT NULL,  -- topic/group
    partition     bigint NOT NULL,
    record_offset bigint NOT NULL,
    record_ms     bigint NOT NULL,  -- the record's time: a topic that is made anew begins at offset 0 again
    at_ms         bigint NOT NULL,  -- when it was handled
    PRIMARY KEY (consumer, partition, record_offset, record_ms)
);
-- How far an inbox was swept: records of a partition up to this offset and this time may have no row any more.
CREATE TABLE :"schema".inbox_swept (
    consumer      text   NOT NULL,
    partition     bigint NOT NULL,
    record_offset bigint NOT NULL,
    record_ms     bigint NOT NULL,
    PRIMARY KEY (consumer, partition)
);
-- Records below that of which somebody has found out that they were not handled.
CREATE TABLE :"schema".inbox_cleared (
    consumer      text   NOT NULL,
    partition     bigint NOT NULL,
    record_offset bigint NOT NULL,
    record_ms     bigint NOT NULL,
    PRIMARY KEY (consumer, partition, record_offset, record_ms)
);
-- The outbox: records that a transaction has to say, until they are stored by the broker.
CREATE TABLE :"schema".outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic   text   NOT NULL,
    record  text   NOT NULL,  -- as it is produced, JSON, with its idempotency key
    refused text              -- why the broker can never store it; null while it waits
);
