-- The store's tables: one append-only log, and the newest row of each key.

-- Who this store is, and where its history begins. Written at creation, by compaction and by restore.
CREATE TABLE meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    cluster_id  TEXT    NOT NULL, -- never changes
    incarnation INTEGER NOT NULL, -- one more after each restore
    floor       INTEGER NOT NULL  -- history up to here may be gone
) STRICT;

-- History, state and change feed in one. A value is stored here and nowhere else.
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key      TEXT    NOT NULL, -- <group>/<resource>/<namespace>/<name>
    created  INTEGER NOT NULL, -- revision in which the key was created
    previous INTEGER NOT NULL, -- the key's row before this one, a delete included; 0 if none
    deleted  INTEGER NOT NULL, -- 1: removed the key; value is the last state
    token    INTEGER NOT NULL, -- the batch that wrote it
    time     INTEGER NOT NULL, -- of the commit, in microseconds since 1970
    actor    TEXT,             -- the user who wrote it
    client   TEXT,             -- and what with
    value    BLOB    NOT NULL
) STRICT;

-- The newest row of each key.
CREATE TABLE heads (
    key      TEXT    PRIMARY KEY,
    revision INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    deleted  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (id, cluster_id, incarnation, floor)
VALUES (1, lower(hex(randomblob(16))), 1, 0);
