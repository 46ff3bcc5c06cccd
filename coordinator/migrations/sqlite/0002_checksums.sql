-- A checksum of the rest of the row, over its columns in this order: SQLite notices a page
-- that is none, but not a value that has become another one. What was there before gets
-- its checksums when the file is opened, `progress` at the very end.
ALTER TABLE jobs ADD COLUMN checksum BIGINT;
ALTER TABLE job_records ADD COLUMN checksum BIGINT;
ALTER TABLE requests ADD COLUMN checksum BIGINT;
ALTER TABLE events ADD COLUMN checksum BIGINT;
ALTER TABLE progress ADD COLUMN checksum BIGINT;
