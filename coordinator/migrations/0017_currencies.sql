-- What money is in. Number 0 is the grid's default. A database that was there before is in euros; a new one's first
-- coordinator says what it is in, before anything else (see store/migrate.rs), and then it stays.
CREATE TABLE currency (
    number smallint PRIMARY KEY CHECK (number >= 0),
    -- Of ISO 4217 where it has three letters.
    code text NOT NULL UNIQUE CHECK (code ~ '^[A-Z]{3,12}$'),
    decimals smallint NOT NULL CHECK (decimals BETWEEN 0 AND 6),
    created_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (number, decimals)
);
CREATE INDEX currency_xid ON currency (xid);
INSERT INTO currency (number, code, decimals) VALUES (0, 'EUR', 2);

-- An account's number has that of its currency above the lower 48 bits: what was sealed stays as it is, and every transfer
-- that is sealed says what it is in.
ALTER TABLE account ADD COLUMN currency smallint NOT NULL GENERATED ALWAYS AS ((id >> 48)::smallint) STORED;
ALTER TABLE account ADD FOREIGN KEY (currency) REFERENCES currency;
ALTER TABLE account DROP CONSTRAINT account_check;
ALTER TABLE account ADD CONSTRAINT account_check CHECK (balance >= 0 OR id & ((1::bigint << 48) - 1) = 0);
ALTER TABLE transfer ADD CONSTRAINT transfer_currency CHECK (debit >> 48 = credit >> 48);
-- The grid's account 24 is what payouts left, as it is less than the currency has decimals for.
-- Codes of transfers: 14 remainder, 15 remainder taken up by the next payout.
INSERT INTO account (id) VALUES (24);

ALTER TABLE job ADD COLUMN currency smallint NOT NULL DEFAULT 0 REFERENCES currency;
ALTER TABLE deposit ADD COLUMN currency smallint NOT NULL DEFAULT 0 REFERENCES currency;
-- A release covers a range of an owner's queue: there is a row for each currency in it.
ALTER TABLE release ADD COLUMN currency smallint NOT NULL DEFAULT 0 REFERENCES currency;
ALTER TABLE release DROP CONSTRAINT release_owner_id_to_seq_key;
ALTER TABLE release ADD UNIQUE (owner_id, to_seq, currency);

ALTER TABLE device_earning ADD COLUMN currency smallint NOT NULL DEFAULT 0;
ALTER TABLE device_earning DROP CONSTRAINT device_earning_pkey;
ALTER TABLE device_earning ADD PRIMARY KEY (device_id, currency, month);

-- Who pays and who is paid, in each currency.
ALTER TABLE payer ADD COLUMN currency smallint NOT NULL DEFAULT 0 REFERENCES currency;
ALTER TABLE payer DROP CONSTRAINT payer_pkey;
ALTER TABLE payer DROP COLUMN only_row;
ALTER TABLE payer ADD PRIMARY KEY (currency);
ALTER TABLE payee ADD COLUMN currency smallint NOT NULL DEFAULT 0 REFERENCES currency;
ALTER TABLE payee DROP CONSTRAINT payee_pkey;
ALTER TABLE payee ADD PRIMARY KEY (owner_id, currency);

-- A batch is of one currency, and what it pays has that currency's decimals.
ALTER TABLE payout_batch ADD COLUMN currency smallint NOT NULL DEFAULT 0;
ALTER TABLE payout_batch ADD COLUMN decimals smallint NOT NULL DEFAULT 2;
ALTER TABLE payout_batch ADD FOREIGN KEY (currency, decimals) REFERENCES currency (number, decimals);
ALTER TABLE payout_batch ADD UNIQUE (id, currency, decimals);
ALTER TABLE payout ADD COLUMN currency smallint NOT NULL DEFAULT 0;
ALTER TABLE payout ADD COLUMN decimals smallint NOT NULL DEFAULT 2;
ALTER TABLE payout ADD FOREIGN KEY (batch_id, currency, decimals) REFERENCES payout_batch (id, currency, decimals);
ALTER TABLE payout DROP CONSTRAINT payout_amount_check;
ALTER TABLE payout ADD CONSTRAINT payout_amount_check CHECK (amount > 0 AND amount = round(amount, decimals));
-- Of what is carried: what lies in the account of remainders. What was left before there was that account lies with its
-- owner, available.
ALTER TABLE payout ADD COLUMN remainder numeric(28, 12) NOT NULL DEFAULT 0
    CHECK (remainder >= 0 AND remainder <= carried_out AND trunc(remainder, decimals) = 0);
DROP INDEX payout_owner;
CREATE INDEX payout_owner ON payout (owner_id, currency, batch_id);

GRANT SELECT, INSERT ON currency TO lull_app;
