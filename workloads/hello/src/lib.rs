//! The smallest useful Lull program: a greeting for each line. It takes no inputs and reads no other payload.

use lull_sdk::{Error, Payload, Unit};

fn greet(unit: &Unit) -> Result<String, Error> {
    let Payload::Lines(lines) = &unit.payload else {
        return Err(Error::new("hello greets lines: split its job by lines"));
    };
    Ok(lines.iter().map(|name| format!("Hello, {}!\n", String::from_utf8_lossy(name))).collect())
}

lull_sdk::each_unit!(greet);

#[cfg(test)]
mod tests {
    use lull_sdk::testing;

    #[test]
    fn each_line_is_greeted() {
        let unit = testing::lines(["Ada", "Grace"]);
        assert_eq!(super::greet(&unit).unwrap(), "Hello, Ada!\nHello, Grace!\n");
    }

    #[test]
    fn other_payloads_are_refused() {
        let unit = testing::work(0, lull_sdk::Payload::Range { start: 0, end: 1 });
        assert!(super::greet(&unit).unwrap_err().message().contains("split its job by lines"));
    }
}
