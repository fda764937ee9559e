-- What a statement opens and closes with is made of sums that are kept (device_earning, held) and of these: transfers
-- that are not one a unit. An entry for every reward would cost a third of what writing the reward does.
CREATE INDEX transfer_rare_credit ON transfer (credit) WHERE code NOT IN (3, 10);
CREATE INDEX transfer_rare_debit ON transfer (debit) WHERE code NOT IN (3, 10);
CREATE INDEX device_owner ON device (owner_id);
-- Pages that nobody has summarised count as of every month: this is not left to the next vacuum.
ALTER INDEX transfer_time SET (autosummarize = on);
