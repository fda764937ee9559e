//! Counts a range of relabelings natively and prints the CPU time in microseconds: what a guest is measured
//! against. `count expression.csv START END`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: count expression.csv START END");
    let table = std::fs::read(next()?)?;
    let range = next()?.parse()?..next()?.parse()?;
    let before = cpu_nanos()?;
    let counts = count(&table, range).map_err(|error| error.message().to_owned())?;
    let micros = (cpu_nanos()? - before) / 1_000;
    #[allow(clippy::print_stdout, reason = "its output")]
    {
        println!("{micros} {}", counts.relabelings);
    }
    Ok(())
}

fn count(table: &[u8], range: std::ops::Range<u64>) -> Result<lull_maxt::Counts, lull_sdk::Error> {
    lull_maxt::Study::new(table, None)?.count(range)
}

/// CPU time of this thread; see `Documentation/scheduler/sched-stats.rst` of Linux.
fn cpu_nanos() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?)
}
