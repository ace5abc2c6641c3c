-- From version 1 of the state file: one address a channel, and no roots before the last head seen.
CREATE TABLE channel_address (
    channel BLOB NOT NULL,
    place INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (channel, place)
) STRICT, WITHOUT ROWID;
INSERT INTO channel_address SELECT id, 0, address FROM channel;
ALTER TABLE channel DROP COLUMN address;
ALTER TABLE channel ADD COLUMN list INTEGER NOT NULL DEFAULT 0;
ALTER TABLE seen ADD COLUMN ancestry BLOB NOT NULL DEFAULT X'';
