-- The grid's own accounts are of kind 0: 0 bank, 8 fees, 16 losses, 24 remainders, 32 paid. Kind 4 is pending.
-- Codes of transfers: 5 release, 6 forfeit, 7 fee, 8 payout, 9 returned, 10 reversal, 11 remainder, 12 rerun.
INSERT INTO account (id) VALUES (8), (16), (24), (32);
INSERT INTO account (id) SELECT id * 8 + 4 FROM owner;
