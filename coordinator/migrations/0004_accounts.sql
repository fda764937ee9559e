-- The grid's own accounts are of kind 0: 0 bank, 8 losses. Kind 4 is pending. Codes of transfers: 5 release, 6 forfeit.
INSERT INTO account (id) VALUES (8);
INSERT INTO account (id) SELECT id * 8 + 4 FROM owner;
