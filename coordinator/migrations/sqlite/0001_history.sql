-- Finished jobs. Narrow on purpose: a search that no index serves reads all of it.
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The name, folded for comparison without regard to case.
    name TEXT NOT NULL,
    -- Milliseconds since the Unix epoch.
    finished_at BIGINT NOT NULL,
    dead_letter SMALLINT NOT NULL,
    -- BLAKE3 of the archive it brought along.
    source TEXT,
    -- Bytes of its stored output.
    log_bytes BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX jobs_by_project ON jobs (project, id);
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_project_and_state ON jobs (project, state, id);
CREATE INDEX jobs_by_finish ON jobs (finished_at, id);
CREATE INDEX dead_letters ON jobs (id) WHERE dead_letter = 1;
CREATE INDEX jobs_by_source ON jobs (source) WHERE source IS NOT NULL;

-- Everything about a finished job, as JSON.
CREATE TABLE job_records (
    job TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
);

-- Ids and names of the runners that had a job.
CREATE TABLE job_runners (
    runner TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (runner, job)
) WITHOUT ROWID;

-- Labels that a job asked for.
CREATE TABLE job_labels (
    label TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (label, job)
) WITHOUT ROWID;

-- Idempotency keys and what they were used for.
CREATE TABLE requests (
    idempotency_key TEXT NOT NULL PRIMARY KEY,
    digest BLOB NOT NULL,
    job TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX requests_by_job ON requests (job);

CREATE TABLE events (
    -- Raft index, and the place among the events of that entry.
    entry BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    job TEXT,
    runner TEXT,
    -- JSON; none where the job's record says it all.
    payload TEXT,
    PRIMARY KEY (entry, ordinal)
) WITHOUT ROWID;

CREATE INDEX events_by_job ON events (job) WHERE job IS NOT NULL;
CREATE INDEX events_without_job ON events (at) WHERE job IS NULL;

-- What the jobs sum up to, by state, so that nobody has to count them.
CREATE TABLE totals (
    state TEXT NOT NULL PRIMARY KEY,
    jobs BIGINT NOT NULL,
    log_bytes BIGINT NOT NULL
);

-- One row: every event up to this Raft index is here.
CREATE TABLE progress (
    through BIGINT NOT NULL
);

INSERT INTO progress (through) VALUES (0);
