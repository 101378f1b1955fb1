-- The store's tables in the schema wk: one append-only log, and the newest row of each key.
-- All writes go through the functions below, which hold one lock until they commit: the order of
-- revisions is the order of commits.

-- Who this store is, and where its history begins. Written at creation, by compaction and by restore.
CREATE TABLE wk.meta (
    id          integer PRIMARY KEY CHECK (id = 1),
    cluster_id  uuid    NOT NULL, -- never changes
    incarnation bigint  NOT NULL, -- one more after each restore or promotion
    floor       bigint  NOT NULL  -- history up to here may be gone
);

-- History, state and change feed in one. A value is stored here and nowhere else.
CREATE TABLE wk.log (
    revision bigint      PRIMARY KEY,
    key      text        COLLATE "C" NOT NULL, -- <group>/<resource>/<namespace>/<name>
    created  bigint      NOT NULL, -- revision in which the key was created
    previous bigint      NOT NULL, -- the key's row before this one, a delete included; 0 if none
    deleted  boolean     NOT NULL, -- removed the key; value is the last state
    token    bigint      NOT NULL, -- the batch that wrote it
    time     timestamptz NOT NULL, -- of the commit
    actor    text,                 -- the user who wrote it
    client   text,                 -- and what with
    value    bytea       NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- lz4 costs a fifth of the time that the default takes; a server may be built without it.
DO $$
BEGIN
    ALTER TABLE wk.log ALTER COLUMN value SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- The newest row of each key. The free space lets updates stay on their page.
CREATE TABLE wk.heads (
    key      text    COLLATE "C" PRIMARY KEY,
    revision bigint  NOT NULL,
    created  bigint  NOT NULL,
    deleted  boolean NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- Batches that were given up: should one arrive late, it is refused.
CREATE TABLE wk.fenced (
    token bigint      PRIMARY KEY,
    time  timestamptz NOT NULL
);

INSERT INTO wk.meta (id, cluster_id, incarnation, floor)
VALUES (1, gen_random_uuid(), 1, 0);

-- The one lock of the store, held until the transaction ends.
CREATE FUNCTION wk.lock() RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(30571);
$$;

-- Commits groups of operations, each group wholly or not at all. No key that one operation writes is
-- named by another. expected: 0 for absent, else the revision; operation: 0 check, 1 put, 2 delete.
-- Answers for each operation the revision it took or found, and whether its expectation held.
CREATE FUNCTION wk.apply(
    batch_token bigint,
    groups      integer[],
    keys        text[],
    expecteds   bigint[],
    operations  smallint[],
    contents    bytea[]
) RETURNS TABLE (place bigint, revision bigint, holds boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    base   bigint;
    newest bigint;
BEGIN
    PERFORM wk.lock();
    -- Statements of their own: their snapshots are taken after the lock was had.
    IF EXISTS (SELECT FROM wk.fenced WHERE token = batch_token) THEN
        RAISE EXCEPTION 'the batch was given up before it arrived';
    END IF;
    SELECT coalesce(max(l.revision), 0) INTO base FROM wk.log AS l;

    RETURN QUERY
    WITH asked AS (
        SELECT *
        FROM unnest(groups, keys, expecteds, operations, contents)
            WITH ORDINALITY AS u (grp, key, expected, operation, value, place)
    ), seen AS MATERIALIZED (
        SELECT
            asked.*,
            coalesce(h.revision, 0) AS linked,
            CASE WHEN h.deleted THEN 0 ELSE coalesce(h.revision, 0) END AS current,
            h.created AS since
        FROM asked
        LEFT JOIN wk.heads AS h ON h.key = asked.key
    ), fresh AS MATERIALIZED (
        SELECT seen.*, base + row_number() OVER (ORDER BY seen.place) AS revision
        FROM seen
        WHERE operation <> 0
          AND grp NOT IN (SELECT grp FROM seen WHERE expected <> current)
    ), logged AS (
        INSERT INTO wk.log (revision, key, created, previous, deleted, token, time, value)
        SELECT
            revision,
            key,
            CASE WHEN current = 0 THEN revision ELSE since END,
            linked,
            operation = 2,
            batch_token,
            clock_timestamp(),
            value
        FROM fresh
    ), raised AS (
        INSERT INTO wk.heads AS h (key, revision, created, deleted)
        SELECT
            key,
            revision,
            CASE WHEN current = 0 THEN revision ELSE since END,
            operation = 2
        FROM fresh
        ON CONFLICT (key) DO UPDATE
        SET revision = excluded.revision,
            created = excluded.created,
            deleted = excluded.deleted
    )
    SELECT
        seen.place,
        coalesce(fresh.revision, seen.current),
        seen.expected = seen.current
    FROM seen
    LEFT JOIN fresh ON fresh.place = seen.place;

    SELECT coalesce(max(l.revision), 0) INTO newest FROM wk.log AS l;
    IF newest > base THEN
        PERFORM pg_notify('wk_log', newest::text);
    END IF;
END
$$;

-- What a batch wrote after a revision. If that is nothing, it never will write anything.
CREATE FUNCTION wk.resolve(batch_token bigint, after bigint)
RETURNS TABLE (key text, revision bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM wk.lock();
    RETURN QUERY
    SELECT l.key, l.revision
    FROM wk.log AS l
    WHERE l.revision > after AND l.token = batch_token
    ORDER BY l.revision;
    IF NOT FOUND THEN
        DELETE FROM wk.fenced WHERE time < now() - interval '1 day';
        INSERT INTO wk.fenced (token, time)
        VALUES (batch_token, now())
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- Moves the floor towards a revision by one window. Answers the floor, and whether that was all.
CREATE FUNCTION wk.compact(target bigint, OUT reached bigint, OUT finished boolean)
LANGUAGE plpgsql AS $$
DECLARE
    start bigint;
    until bigint;
BEGIN
    PERFORM wk.lock();
    SELECT floor INTO start FROM wk.meta WHERE id = 1;
    -- The newest row tells the next revision: it stays.
    SELECT least(target, coalesce(max(revision), 1) - 1) INTO until FROM wk.log;
    reached := least(start + 1000, until);
    IF reached <= start THEN
        reached := start;
        finished := true;
        RETURN;
    END IF;
    finished := reached = until;
    -- Heads of keys that were deleted in the window and are absent still.
    DELETE FROM wk.heads AS h
    USING wk.log AS l
    WHERE l.revision > start AND l.revision <= reached AND l.deleted
      AND h.key = l.key AND h.revision = l.revision;
    -- What the window superseded, and its deletes.
    DELETE FROM wk.log AS l
    USING (
        SELECT previous AS revision
        FROM wk.log
        WHERE revision > start AND revision <= reached AND previous > 0
        UNION ALL
        SELECT revision
        FROM wk.log
        WHERE revision > start AND revision <= reached AND deleted
    ) AS gone
    WHERE l.revision = gone.revision;
    UPDATE wk.meta SET floor = reached WHERE id = 1;
END
$$;
