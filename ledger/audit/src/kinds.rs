//! What is sealed: tables, their columns in order, and the keys that order and name rows. As in `docs/LEDGER.md`.

use crate::source::Row;

/// A table of which the rows are sealed.
pub(crate) struct Kind {
    /// Its number in a seal.
    pub(crate) number: i64,
    /// Its name.
    pub(crate) table: &'static str,
    /// Its columns, after `xid`.
    columns: &'static [&'static str],
    /// Those of them that order the rows of a transaction; whole numbers.
    key: &'static [&'static str],
}

/// Number of the kind that carries prices and budgets.
pub(crate) const JOB: i64 = 1;
/// Number of the kind that moves money.
pub(crate) const TRANSFER: i64 = 3;

/// All of them, in the order of a seal.
pub(crate) const KINDS: [Kind; 17] = [
    Kind {
        number: JOB,
        table: "job",
        columns: &[
            "id",
            "submitter_id",
            "request_id",
            "spec",
            "order_key",
            "priority",
            "item_price",
            "service_price",
            "budget",
            "max_error",
            "max_answer_error",
            "created_at",
        ],
        key: &["id"],
    },
    Kind {
        number: 2,
        table: "deposit",
        columns: &["id", "submitter_id", "request_id", "amount", "created_at"],
        key: &["id"],
    },
    Kind {
        number: TRANSFER,
        table: "transfer",
        columns: &[
            "id",
            "debit",
            "credit",
            "amount",
            "code",
            "job_id",
            "stage",
            "idx",
            "attempt",
            "created_at",
        ],
        key: &["code", "job_id", "stage", "idx", "attempt"],
    },
    Kind {
        number: 4,
        table: "verdict",
        columns: &[
            "job_id",
            "stage",
            "idx",
            "version",
            "outcome",
            "digest",
            "size_bytes",
            "agreeing",
            "attempts",
            "created_at",
        ],
        key: &["job_id", "stage", "idx", "version"],
    },
    Kind {
        number: 5,
        table: "held",
        columns: &[
            "owner_id",
            "seq",
            "job_id",
            "stage",
            "idx",
            "amount",
            "until_seq",
            "checked",
            "created_at",
        ],
        key: &["owner_id", "seq"],
    },
    Kind {
        number: 6,
        table: "release",
        columns: &["id", "owner_id", "from_seq", "to_seq", "amount", "created_at"],
        key: &["id"],
    },
    Kind {
        number: 7,
        table: "catch",
        columns: &[
            "id",
            "owner_id",
            "device_id",
            "job_id",
            "stage",
            "idx",
            "from_seq",
            "to_seq",
            "reason",
            "correct",
            "created_at",
        ],
        key: &["id"],
    },
    Kind {
        number: 8,
        table: "currency",
        columns: &["number", "code", "decimals", "created_at"],
        key: &["number"],
    },
    Kind { number: 9, table: "operator", columns: &["id", "name", "created_at"], key: &["id"] },
    Kind {
        number: 10,
        table: "payout_batch",
        columns: &[
            "id",
            "request_id",
            "minimum",
            "payer_name",
            "payer_iban",
            "payer_bic",
            "proposed_by",
            "proposed_at",
            "currency",
            "decimals",
        ],
        key: &["id"],
    },
    Kind {
        number: 11,
        table: "payout",
        columns: &[
            "batch_id",
            "owner_id",
            "amount",
            "payee_name",
            "payee_iban",
            "carried_in",
            "carried_out",
            "currency",
            "decimals",
            "remainder",
        ],
        key: &["batch_id", "owner_id"],
    },
    Kind {
        number: 12,
        table: "payout_line",
        columns: &["transfer_id", "batch_id", "owner_id"],
        key: &["transfer_id"],
    },
    Kind {
        number: 13,
        table: "payout_step",
        columns: &["batch_id", "step", "operator_id", "created_at"],
        key: &["batch_id", "step"],
    },
    Kind {
        number: 14,
        table: "reversal",
        columns: &["id", "code", "job_id", "stage", "idx", "attempt", "reason", "operator_id", "created_at"],
        key: &["id"],
    },
    Kind { number: 15, table: "submitter", columns: &["id", "name", "created_at"], key: &["id"] },
    Kind { number: 16, table: "owner", columns: &["id", "name", "created_at"], key: &["id"] },
    Kind {
        number: 17,
        table: "device",
        columns: &["id", "owner_id", "public_key", "enrolled_at"],
        key: &["id"],
    },
];

impl Kind {
    /// Rows of transactions from `from`, up to but not with `to`, in the order of a seal.
    #[must_use]
    pub(crate) fn select(&self, from: u64, to: Option<u64>) -> String {
        let (columns, table, key) = (self.columns.join(", "), self.table, self.key.join(", "));
        let below = to.map_or_else(String::new, |to| format!(" AND xid < '{to}'"));
        format!("SELECT xid, {columns} FROM {table} WHERE xid >= '{from}'{below} ORDER BY xid, {key}")
    }

    /// Where a column stands in a row of [`Kind::select`].
    #[must_use]
    pub(crate) fn at(&self, column: &str) -> usize {
        self.columns.iter().position(|one| *one == column).map_or(usize::MAX, |at| at + 1)
    }

    /// Names a row by its key.
    #[must_use]
    pub(crate) fn name(&self, row: &Row<'_>) -> String {
        let part = |column: &&str| {
            let value = row.int(self.at(column)).map_or_else(|_| "?".to_owned(), |value| value.to_string());
            format!("{column} {value}")
        };
        format!("{} ({})", self.table, self.key.iter().map(part).collect::<Vec<_>>().join(", "))
    }
}
