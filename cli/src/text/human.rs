//! Numbers, times and foreign text as people read them.

use std::time::Duration;

use prost_types::Timestamp;

/// An integer with its thousands apart: `1,203,322,288`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 unit`, `2 units`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A size: `512 bytes`, `3.2 MiB`.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if size < 1024 {
        return counted(size, "byte");
    }
    let mut tenths = u128::from(size) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A time in its two largest parts: `42 ms`, `3.5 s`, `4 min 12 s`, `3 h 20 min`, `12 days 4 h`.
pub(crate) fn duration(time: Duration) -> String {
    let micros = time.as_micros();
    let secs = time.as_secs();
    match secs {
        0 if micros < 1_000 => format!("{micros} us"),
        0 => format!("{} ms", micros / 1_000),
        1..60 => format!("{}.{} s", secs, micros / 100_000 % 10),
        60..3_600 => format!("{} min {} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {} min", secs / 3_600, secs / 60 % 60),
        86_400..31_536_000 => format!("{} {} h", counted(secs / 86_400, "day"), secs / 3_600 % 24),
        _ => format!("{} {}", counted(secs / 31_536_000, "year"), counted(secs % 31_536_000 / 86_400, "day")),
    }
}

/// Microseconds as [`duration`].
pub(crate) fn micros(micros: u64) -> String {
    duration(Duration::from_micros(micros))
}

/// `2026-07-23 10:11:12`, in UTC; a dash where there is none.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let whole = Timestamp { nanos: 0, ..*time };
    whole.to_string().replace('T', " ").trim_end_matches('Z').to_owned()
}

/// Text from elsewhere on one line of a terminal: control characters become `?`, so that nobody's
/// display name or failure message can move the cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { if c == '\n' { ' ' } else { '?' } } else { c }).collect()
}

/// [`plain`], cut to this many characters.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= chars_max {
        return text;
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_parts_at_most() {
        let check = |micros_in: u64, expected: &str| assert_eq!(micros(micros_in), expected);
        const SEC: u64 = 1_000_000;
        check(0, "0 us");
        check(999, "999 us");
        check(42_700, "42 ms");
        check(3_590_000, "3.5 s");
        check(59_999_999, "59.9 s");
        check(252 * SEC, "4 min 12 s");
        check(12_000 * SEC, "3 h 20 min");
        check(86_400 * SEC, "1 day 0 h");
        check((12 * 86_400 + 4 * 3_600) * SEC, "12 days 4 h");
        check((2 * 365 + 1) * 86_400 * SEC, "2 years 1 day");
        assert!(micros(u64::MAX).starts_with("584,942 years"));
    }

    #[test]
    fn counts_and_sizes() {
        let check = |given: String, expected: &str| assert_eq!(given, expected);
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_000), "1,000");
        check(count(1_203_322_288), "1,203,322,288");
        check(counted(1, "unit"), "1 unit");
        check(bytes(1), "1 byte");
        check(bytes(1_023), "1,023 bytes");
        check(bytes(1_536), "1.5 KiB");
        check(bytes(3 * 1024 * 1024 + 300_000), "3.2 MiB");
        check(bytes(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn times_are_utc() {
        let moment = Timestamp { seconds: 1_784_801_472, nanos: 5_000_000 };
        assert_eq!(time(Some(&moment)), "2026-07-23 10:11:12");
        assert_eq!(time(None), "-");
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a?[2Jb c");
        assert_eq!(short("leukaemia", 5), "leuk\u{2026}");
        assert_eq!(short("leuk", 5), "leuk");
    }
}
