//! The database, read only: one snapshot, seen by several connections, and streams of rows out of it.

use std::io::BufRead as _;

use anyhow::{Context as _, Result, bail, ensure};
use postgres::{Client, Config, CopyOutReader, NoTls};

use crate::amount::Amount;
use crate::progress::Progress;

/// What is audited is all there after this migration of the coordinator's.
const MIGRATION_MIN: i32 = 28;
/// Sorts of more than this many MiB use the disk of the server.
const SORT_MIB: u32 = 64;
/// Units go out in a random order. To follow an index on them through a large table reads a page for every row. And
/// several streams are read at once as it is.
const WHOLE_TABLES: &str = "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off;
    SET LOCAL max_parallel_workers_per_gather = 0";
/// `PGCOPY\n\xff\r\n\0`, flags, and the length of an extension that does not exist.
const COPY_HEADER_BYTES: usize = 11 + 4 + 4;
/// So many rows go by before whoever waits is told: threads that count in one place hold each other up.
const ROWS_UNSAID_MAX: u64 = 1_000;
/// Fields of the widest row.
const FIELDS_MAX: usize = 16;

/// Where the database is, and the snapshot that all connections see.
#[derive(Clone)]
pub(crate) struct Source {
    config: Config,
    snapshot: Option<String>,
    progress: Progress,
}

/// A connection in a read-only transaction.
pub(crate) struct Session {
    client: Client,
    progress: Progress,
}

impl Source {
    /// The database at this URL, as it is now. The session holds the snapshot for the others.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) fn open(url: &str, progress: Progress) -> Result<(Self, Session)> {
        let mut config: Config = url.parse().context("reading the database URL")?;
        config.application_name("lull-audit");
        let mut source = Self { config, snapshot: None, progress };
        let mut session = source.connect()?;
        let row = session.client.query_one("SELECT pg_export_snapshot()", &[])?;
        source.snapshot = Some(row.try_get(0)?);
        session.check_version()?;
        Ok((source, session))
    }

    /// One more connection that sees the same, for whole tables in the order of their units: they are sorted.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn session(&self) -> Result<Session> {
        let mut session = self.connect()?;
        session.client.batch_execute(WHOLE_TABLES)?;
        Ok(session)
    }

    fn connect(&self) -> Result<Session> {
        let mut client = self.config.connect(NoTls).context("connecting to the database")?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        if let Some(snapshot) = &self.snapshot {
            client.batch_execute(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))?;
        }
        // Where a table lies is not said by what a name happens to find first.
        client
            .batch_execute(&format!("SET LOCAL search_path = public; SET LOCAL work_mem = '{SORT_MIB}MB'"))?;
        Ok(Session { client, progress: self.progress.clone() })
    }
}

impl Session {
    /// What is looked at is there from a certain migration on.
    fn check_version(&mut self) -> Result<()> {
        let found = "SELECT to_regclass('public.migration') IS NOT NULL";
        let is_grid: bool = self.client.query_one(found, &[])?.try_get(0)?;
        ensure!(is_grid, "this is no database of a coordinator: it has no table `migration`");
        let newest = "SELECT coalesce(max(number), 0) FROM migration";
        let newest: i32 = self.client.query_one(newest, &[])?.try_get(0)?;
        ensure!(
            newest >= MIGRATION_MIN,
            "the database is an older coordinator's, with {newest} as its last migration: start this version's coordinator on it, or \
             audit it with the lull-audit of that version"
        );
        Ok(())
    }

    /// The rows of a query, one at a time.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) fn rows(&mut self, select: &str) -> Result<Rows<'_>> {
        let reader = self.client.copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT binary)"))?;
        Ok(Rows {
            reader,
            progress: self.progress.clone(),
            buffer: Vec::new(),
            fields: [None; FIELDS_MAX],
            begun: false,
            next: 0,
            unsaid: 0,
        })
    }

    /// The only value of a query's only row.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn text(&mut self, select: &str) -> Result<String> {
        self.client.query_one(select, &[])?.try_get(0).with_context(|| format!("reading {select}"))
    }
}

/// Rows as they come.
pub(crate) struct Rows<'a> {
    reader: CopyOutReader<'a>,
    progress: Progress,
    buffer: Vec<u8>,
    fields: [Option<(usize, usize)>; FIELDS_MAX],
    begun: bool,
    /// Where the next row begins in the buffer.
    next: usize,
    /// Rows that whoever waits was not told of.
    unsaid: u64,
}

/// A row: the bytes that PostgreSQL sent.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// The number of fields, then each with its length.
    pub(crate) bytes: &'a [u8],
    fields: &'a [Option<(usize, usize)>; FIELDS_MAX],
}

enum Found {
    Row(usize),
    End,
    Unfinished,
}

impl Rows<'_> {
    /// The next row.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        loop {
            if !self.begun && self.buffer.len() >= COPY_HEADER_BYTES {
                self.begun = true;
                self.next = COPY_HEADER_BYTES;
            }
            let found = if self.begun { self.look()? } else { Found::Unfinished };
            match found {
                Found::Row(bytes) => {
                    let start = self.next;
                    self.next += bytes;
                    self.unsaid += 1;
                    if self.unsaid == ROWS_UNSAID_MAX {
                        self.progress.add_rows(std::mem::take(&mut self.unsaid));
                    }
                    return Ok(Some(Row { bytes: &self.buffer[start..start + bytes], fields: &self.fields }));
                }
                Found::End => {
                    // What the server says last: that all went well.
                    while !self.reader.fill_buf()?.is_empty() {
                        let rest = self.reader.fill_buf()?.len();
                        self.reader.consume(rest);
                    }
                    return Ok(None);
                }
                Found::Unfinished => {
                    self.buffer.drain(..self.next);
                    self.next = 0;
                    let piece = self.reader.fill_buf()?;
                    ensure!(!piece.is_empty(), "rows ended in the middle of one");
                    self.buffer.extend_from_slice(piece);
                    let bytes = piece.len();
                    self.reader.consume(bytes);
                }
            }
        }
    }

    /// Looks for the end of the row that begins here, and for its fields.
    fn look(&mut self) -> Result<Found> {
        let bytes = &self.buffer[self.next..];
        let Some((count, _)) = bytes.split_first_chunk::<2>() else { return Ok(Found::Unfinished) };
        let Ok(count) = usize::try_from(i16::from_be_bytes(*count)) else { return Ok(Found::End) };
        ensure!(count <= FIELDS_MAX, "a row has {count} fields");
        let mut at = 2;
        for field in &mut self.fields[..count] {
            let Some((length, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<4>()) else {
                return Ok(Found::Unfinished);
            };
            at += 4;
            *field = match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    at += length;
                    Some((at - length, at))
                }
                Err(_) => None,
            };
        }
        self.fields[count..].fill(None);
        Ok(if bytes.len() < at { Found::Unfinished } else { Found::Row(at) })
    }
}

impl<'a> Row<'a> {
    /// The bytes of a field; `None` for null.
    #[must_use]
    pub(crate) fn field(&self, index: usize) -> Option<&'a [u8]> {
        self.fields.get(index).copied().flatten().and_then(|(start, end)| self.bytes.get(start..end))
    }

    /// The bytes of a field that is not null.
    ///
    /// # Errors
    /// When it is.
    pub(crate) fn bytes(&self, index: usize) -> Result<&'a [u8]> {
        self.field(index).with_context(|| format!("field {index} of a row is null"))
    }

    /// A whole number: `smallint`, `integer` or `bigint`.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn int(&self, index: usize) -> Result<i64> {
        match self.bytes(index)? {
            &[a, b] => Ok(i16::from_be_bytes([a, b]).into()),
            &[a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
            &[a, b, c, d, e, f, g, h] => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            other => bail!("field {index} of a row is a number of {} bytes", other.len()),
        }
    }

    /// An `xid8`.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn xid(&self, index: usize) -> Result<u64> {
        Ok(u64::from_be_bytes(self.bytes(index)?.try_into().context("an xid8 of another length")?))
    }

    /// A digest, or a key.
    ///
    /// # Errors
    /// When it has another length.
    pub(crate) fn digest(&self, index: usize) -> Result<[u8; 32]> {
        self.bytes(index)?.try_into().with_context(|| format!("field {index} of a row is no digest"))
    }

    /// An amount.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn amount(&self, index: usize) -> Result<Amount> {
        Amount::read(self.bytes(index)?)
    }

    /// Text.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn text(&self, index: usize) -> Result<&'a str> {
        Ok(std::str::from_utf8(self.bytes(index)?)?)
    }
}
