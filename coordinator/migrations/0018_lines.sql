-- Lines of payouts are collected before their accounts are locked, and payouts are written after it.
ALTER TABLE payout_line ALTER CONSTRAINT payout_line_batch_id_owner_id_fkey DEFERRABLE INITIALLY DEFERRED;
