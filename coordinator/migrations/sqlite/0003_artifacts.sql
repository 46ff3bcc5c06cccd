-- The manifests of the artifacts that a job left, so that nothing of them is removed before it.
CREATE TABLE job_artifacts (
    manifest TEXT NOT NULL,
    job TEXT NOT NULL,
    PRIMARY KEY (manifest, job)
) WITHOUT ROWID;
