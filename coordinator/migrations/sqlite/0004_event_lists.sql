-- Lists of events, newest first: of one kind, of one runner, and of what is neither about a job
-- nor about a runner.
CREATE INDEX events_by_kind ON events (kind);
CREATE INDEX events_by_runner ON events (runner) WHERE job IS NULL AND runner IS NOT NULL;
CREATE INDEX events_about_no_runner ON events (entry, ordinal) WHERE job IS NULL AND runner IS NULL;
