//! A guest that does what its items say: for tests of the grid, whose units must fail, trap, hang and grow.
//!
//! An item is a command and what it is about:
//!
//! | item | what becomes of it |
//! |---|---|
//! | `echo TEXT` | `TEXT` and a line end |
//! | `fail TEXT` | the unit fails with that message |
//! | `panic TEXT` | a panic with that message |
//! | `trap` | a trap without a message |
//! | `hang` | a step that never returns |
//! | `bytes N` | `N` times the letter x |
//! | `grow MIB` | `grew` and a line end, once that much memory was written to |
//!
//! The points of a grid and the integers of a range are echoed. The input `items` lists, line by line, what
//! its own split returns; the input `finish` is a command for the finish unit.

use std::hint::black_box;

use lull_sdk::{Error, Inputs, Payload, Program, Step, Unit};

struct Probe;

struct Shared {
    items: Option<Vec<Vec<u8>>>,
    finish: Option<Vec<u8>>,
}

impl Program for Probe {
    type Shared = Shared;
    type Work = std::vec::IntoIter<Vec<u8>>;

    fn prepare(inputs: &Inputs) -> Result<Shared, Error> {
        let lines = |text: &str| text.lines().map(|line| line.as_bytes().to_vec()).collect();
        Ok(Shared {
            items: inputs.text("items")?.map(lines),
            finish: inputs.get("finish").map(<[u8]>::to_vec),
        })
    }

    fn split(shared: &Shared) -> Result<Vec<Vec<u8>>, Error> {
        shared.items.clone().ok_or_else(|| Error::new("give the items as the input `items`"))
    }

    fn begin(_: &Shared, unit: Unit) -> Result<Self::Work, Error> {
        let echo = |text: String| format!("echo {text}").into_bytes();
        let items: Vec<Vec<u8>> = match unit.payload {
            Payload::Lines(items) | Payload::Files(items) | Payload::Items(items) => items,
            Payload::Range { start, end } => (start..end).map(|item| echo(item.to_string())).collect(),
            Payload::Points(points) => points
                .into_iter()
                .map(|point| {
                    let values: Vec<_> =
                        point.into_iter().map(|(axis, value)| format!("{axis}={value}")).collect();
                    echo(values.join(","))
                })
                .collect(),
            Payload::Nothing | Payload::Parts(_) => Vec::new(),
        };
        Ok(items.into_iter())
    }

    fn step(_: &Shared, items: &mut Self::Work) -> Result<Step, Error> {
        let mut result = Vec::new();
        for item in items {
            result.extend(run(&item)?);
        }
        Ok(Step::Done(result))
    }

    fn finish(shared: &Shared, merged: Vec<u8>) -> Result<Vec<u8>, Error> {
        match &shared.finish {
            Some(command) => run(command),
            None => Ok(merged),
        }
    }
}

fn run(item: &[u8]) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(item)?.trim_end();
    let (command, about) = text.split_once(' ').unwrap_or((text, ""));
    match command {
        "echo" => Ok(format!("{about}\n").into_bytes()),
        "fail" => Err(Error::new(about)),
        "panic" => panic!("{about}"),
        "trap" => trap(),
        "hang" => loop {
            black_box(());
        },
        "bytes" => Ok(vec![b'x'; about.parse()?]),
        "grow" => {
            let mib: usize = about.parse()?;
            black_box(vec![1_u8; mib << 20]);
            Ok(b"grew\n".to_vec())
        }
        _ => Err(Error::new(format!("`{text}` is no command: see the table in lull-probe"))),
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    std::process::abort()
}

lull_sdk::program!(Probe);

#[cfg(test)]
mod tests {
    use lull_sdk::{Inputs, Payload, testing};

    use super::Probe;

    fn lines(items: &[&str]) -> Payload {
        Payload::Lines(items.iter().map(|item| item.as_bytes().to_vec()).collect())
    }

    #[test]
    fn items_are_commands() {
        let check = |items: &[&str], expected: Result<&str, &str>| {
            let result = testing::run::<Probe>(&Inputs::new(), [lines(items)]);
            match (result, expected) {
                (Ok(result), Ok(expected)) => assert_eq!(result, expected.as_bytes(), "{items:?}"),
                (Err(error), Err(expected)) => assert!(error.message().contains(expected), "{error}"),
                (result, expected) => panic!("{items:?}: {result:?}, not {expected:?}"),
            }
        };
        check(&["echo a b", "bytes 3", "grow 1"], Ok("a b\nxxxgrew\n"));
        check(&["echo a", "fail it broke"], Err("it broke"));
        check(&["sing"], Err("`sing` is no command"));
    }

    #[test]
    fn its_split_lists_an_input() {
        let inputs: Inputs = [("items", *b"echo a\nfail b\n")].into_iter().collect();
        assert_eq!(testing::split::<Probe>(&inputs).unwrap(), [b"echo a".to_vec(), b"fail b".to_vec()]);
        assert!(testing::split::<Probe>(&Inputs::new()).is_err());
    }
}
