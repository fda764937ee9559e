-- A lease that takes too long: its units go out once more while it is open. When it was given, and when it was last looked
-- at, which is when its time begins again; units that it held at first; whether some of them may be out twice.
ALTER TABLE lease ADD COLUMN leased_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE lease ADD COLUMN looked_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE lease ADD COLUMN units integer NOT NULL DEFAULT 1;
ALTER TABLE lease ADD COLUMN copied boolean NOT NULL DEFAULT false;
UPDATE lease SET units = greatest(cardinality(open), 1);

-- Whether a lease of the unit is open: this would be a second one.
ALTER TABLE wanted ADD COLUMN copy boolean NOT NULL DEFAULT false;

-- What holds or wants a unit besides a copied lease: few rows, if any.
CREATE INDEX lease_copied ON lease (job_id) WHERE copied;
CREATE INDEX wanted_copy ON wanted (job_id, stage, idx) WHERE copy;
