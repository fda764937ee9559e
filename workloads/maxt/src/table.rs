//! Reading an expression table. It knows no statistics: classes and variances are [`crate::Study`]'s.

use csv_core::{ReadRecordResult, Reader};
use lull_sdk::Error;

/// Most samples that a table may have.
///
/// A sum of weights is at most `K sqrt(n) / 2 + n / 2`, which for `K = 10^8` and `n = 1000` is 1.6e9 and
/// fits `i32`.
pub const MAX_SAMPLES: usize = 1000;

/// Largest value, in whole units.
///
/// With five decimals that is `X = 10^14`, and the widest product, `10 n^2 sum X^2 <= 10 n^3 X^2`, is 10^38
/// and fits `u128` for [`MAX_SAMPLES`].
pub const MAX_ABS_VALUE: i64 = 1_000_000_000;

/// Decimals of a value: it is kept as an integer number of `10^-DECIMALS`.
const DECIMALS: usize = 5;

/// Columns that describe a gene, at most.
const MAX_GENE_COLUMNS: usize = 2;

/// Gene expression by gene and sample.
///
/// As CSV (RFC 4180): the header names the gene column, perhaps a second one `name` that is not used, and
/// then each sample by its class, so that labels repeat. Each further line is a gene with a value per
/// sample, of at most five decimals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The class of each sample.
    pub labels: Vec<String>,
    /// The genes in the order of the file.
    pub genes: Vec<Gene>,
}

/// One line of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gene {
    /// What the gene column says.
    pub name: String,
    /// Where it stands in the file, counted from 1.
    pub line: u64,
    /// Its values in hundred-thousandths, by sample.
    pub values: Vec<i64>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// When the bytes are not such a table; the message names the line and the remedy.
    pub fn parse(csv: &[u8]) -> Result<Self, Error> {
        let mut records = Records::new(csv);
        let Some(header) = records.next()? else {
            return Err(Error::new(
                "expression is empty: its first line must be `gene` and the class of each sample",
            ));
        };
        let first_sample = if header.fields.get(1) == Some(&"name") { 2 } else { 1 };
        let labels = header_labels(&header, first_sample)?;

        let mut genes = Vec::new();
        while let Some(record) = records.next()? {
            genes.push(read_gene(&record, first_sample, labels.len())?);
        }
        if genes.is_empty() {
            return Err(Error::new("expression has a header but no genes: give each gene a line"));
        }
        Ok(Self { labels, genes })
    }
}

fn header_labels(header: &Record<'_>, first_sample: usize) -> Result<Vec<String>, Error> {
    let labels = header.fields.get(first_sample..).unwrap_or_default();
    for (index, label) in labels.iter().enumerate() {
        let column = first_sample + index + 1;
        if label.is_empty() {
            return Err(header.error(&format!("column {column} has no label: name the class of its sample")));
        }
        if header.fields[..first_sample].contains(label) {
            return Err(header.error(&format!(
                "column {column} is headed `{label}` like a column of gene names before it: \
                 name the class of its sample"
            )));
        }
    }
    if labels.len() < 2 {
        return Err(header.error(&format!(
            "{} samples: two classes need at least two, each a column headed by its class",
            labels.len()
        )));
    }
    if labels.len() > MAX_SAMPLES {
        return Err(header.error(&format!(
            "{} samples, and the arithmetic holds for {MAX_SAMPLES}: give fewer",
            labels.len()
        )));
    }
    Ok(labels.iter().map(|&label| label.to_owned()).collect())
}

fn read_gene(record: &Record<'_>, first_sample: usize, samples: usize) -> Result<Gene, Error> {
    let fields = record.fields.get(first_sample..).unwrap_or_default();
    if fields.len() != samples {
        return Err(record.error(&format!(
            "{} values where the header names {samples} samples: give every gene one value per sample, \
             and quote names that contain commas",
            fields.len()
        )));
    }
    let mut values = Vec::with_capacity(samples);
    for (index, field) in fields.iter().enumerate() {
        let value = parse_value(field).map_err(|problem| {
            record.error(&format!("column {}: `{field}` {problem}", first_sample + index + 1))
        })?;
        values.push(value);
    }
    Ok(Gene { name: record.fields[0].to_owned(), line: record.line, values })
}

/// A decimal number in hundred-thousandths.
fn parse_value(text: &str) -> Result<i64, &'static str> {
    const NOT_A_NUMBER: &str = "is not a number: write it like -1.45769, without an exponent";
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(NOT_A_NUMBER);
    }
    if decimals.len() > DECIMALS {
        return Err("has more than five decimals, which exact arithmetic cannot hold: round it to five");
    }
    let too_large = "is beyond 1000000000: choose a larger measuring unit";
    let whole: i64 = whole.parse().map_err(|_| too_large)?;
    let fraction = decimals.bytes().chain([b'0'; DECIMALS]).take(DECIMALS);
    let fraction = fraction.fold(0, |fraction, digit| 10 * fraction + i64::from(digit - b'0'));
    let scale = 10_i64.pow(DECIMALS as u32);
    let value = whole.checked_mul(scale).and_then(|value| value.checked_add(fraction)).ok_or(too_large)?;
    if value > MAX_ABS_VALUE * scale {
        return Err(too_large);
    }
    Ok(if text.starts_with('-') { -value } else { value })
}

/// One record of a CSV file.
struct Record<'a> {
    line: u64,
    fields: Vec<&'a str>,
}

impl Record<'_> {
    fn error(&self, problem: &str) -> Error {
        Error::new(format!("expression, line {}: {problem}", self.line))
    }
}

/// The records of a CSV file, one at a time.
struct Records<'a> {
    reader: Reader,
    rest: &'a [u8],
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl<'a> Records<'a> {
    fn new(csv: &'a [u8]) -> Self {
        let rest = csv.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(csv);
        // A record is no longer than the file, quotes included.
        let text = vec![0; rest.len()];
        Self { reader: Reader::new(), rest, text, ends: vec![0; MAX_GENE_COLUMNS + MAX_SAMPLES + 1] }
    }

    fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        let (mut text_len, mut end_count) = (0, 0);
        loop {
            let (result, read, wrote, ended) =
                self.reader.read_record(self.rest, &mut self.text[text_len..], &mut self.ends[end_count..]);
            let at_line_end = self.rest[..read].ends_with(b"\n");
            self.rest = &self.rest[read..];
            text_len += wrote;
            end_count += ended;
            let line = if at_line_end { self.reader.line() - 1 } else { self.reader.line() };
            match result {
                // More input is the end of the file: an empty slice says so.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => return self.record(line, end_count).map(Some),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(Error::new(format!(
                        "expression, line {line}: more than {MAX_SAMPLES} samples, \
                         which the arithmetic does not hold for: give fewer"
                    )));
                }
            }
        }
    }

    fn record(&self, line: u64, end_count: usize) -> Result<Record<'_>, Error> {
        let mut fields = Vec::with_capacity(end_count);
        let mut start = 0;
        for &end in &self.ends[..end_count] {
            let field = std::str::from_utf8(&self.text[start..end]).map_err(|_| {
                Error::new(format!("expression, line {line}: not UTF-8 text: save the table as UTF-8"))
            })?;
            fields.push(field.trim_ascii());
            start = end;
        }
        Ok(Record { line, fields })
    }
}
