//! Bad input: every refusal names the place and the remedy.

use lull_maxt::{MAX_SAMPLES, MaxT, Study};
use lull_sdk::{Inputs, Payload, testing};

fn check(expression: &str, class: Option<&str>, message: &str) {
    match Study::new(expression.as_bytes(), class) {
        Ok(_) => panic!("accepted, but expected: {message}"),
        Err(error) => assert!(error.message().contains(message), "{error}\nexpected: {message}"),
    }
}

#[test]
fn tables() {
    let header = "gene,name,a,a,b,b\n";
    let check_row =
        |row: &str, message: &str| check(&format!("{header}ok,ok,1,2,3,4\n{row}\n"), None, message);

    check("", None, "expression is empty: its first line must be");
    check(header, None, "a header but no genes");
    check_row("x,x,1,2,3", "expression, line 3: 3 values where the header names 4 samples: give every gene");
    check_row("x,x,y,1,2,3,4", "expression, line 3: 5 values where");
    check_row("x", "expression, line 3: 0 values where");
    check_row("x,x,1,2,NA,4", "expression, line 3: column 5: `NA` is not a number: write it like");
    check_row("x,x,1,2,1e3,4", "`1e3` is not a number");
    check_row("x,x,1,2,,4", "`` is not a number");
    check_row("x,x,1,2,.5,4", "`.5` is not a number");
    check_row("x,x,1,2,5.,4", "`5.` is not a number");
    check_row("x,x,1,2,--5,4", "`--5` is not a number");
    check_row("x,x,1,2,0.123456,4", "`0.123456` has more than five decimals");
    check_row("x,x,1,2,1000000000.00001,4", "is beyond 1000000000: choose");
    check_row("x,x,1,2,99999999999999999999,4", "is beyond 1000000000: choose");
    check_row("x,x,7,7.0,7.00000,7", "expression, line 3: gene `x` has the same value in every sample");
    check_row("\n\nx,x,1,2,3", "expression, line 5: 3 values");
    check("gene,a,b\nx,1,2", Some("c"), "class: no sample is labelled `c`: choose one of `a`, `b`");
    check("gene,a,b\nx,1", None, "expression, line 2: 1 values");
}

#[test]
fn headers() {
    check("gene,a,a\nx,1,2\n", None, "expression, line 1: all 2 samples are `a`: two classes are compared");
    check("gene,a,b,c\nx,1,2,3\n", None, "3 classes (`a`, `b`, `c`): name the one");
    check("gene,name,a\nx,x,1\n", None, "expression, line 1: 1 samples: two classes need at least two");
    check("gene\nx\n", None, "0 samples: two classes");
    check("gene,a,,b\nx,1,2,3\n", None, "expression, line 1: column 3 has no label");
    check("gene,name,a,name,b\nx,x,1,2,3\n", None, "column 4 is headed `name` like a column of gene names");
    check("gene,a,gene,b\nx,1,2,3\n", None, "column 3 is headed `gene` like");
}

#[test]
fn limits() {
    let table = |samples: usize, chosen: usize| {
        let labels = (0..samples).map(|sample| if sample < chosen { ",b" } else { ",a" });
        let values = (0..samples).map(|sample| format!(",{sample}"));
        format!("gene{}\nx{}\n", labels.collect::<String>(), values.collect::<String>())
    };
    assert_eq!(Study::new(table(MAX_SAMPLES, 1).as_bytes(), None).err(), None);
    check(
        &table(MAX_SAMPLES + 1, 1),
        None,
        "expression, line 1: 1001 samples, and the arithmetic holds for 1000",
    );
    check(&table(MAX_SAMPLES + 2, 1), None, "1002 samples, and");
    check(&table(MAX_SAMPLES + 9, 1), None, "expression, line 1: more than 1000 samples");

    assert_eq!(Study::new(table(67, 33).as_bytes(), None).err(), None);
    check(&table(68, 34), None, "34 out of 68 samples can be chosen in more ways than 64 bits count");

    let largest = "gene,a,b,b\nx,-1000000000,1000000000,999999999.99999\n";
    assert_eq!(Study::new(largest.as_bytes(), None).unwrap().count(0..3).unwrap().raw, [1]);
}

#[test]
fn units() {
    let table = "gene,a,a,b,b\nx,1,2,3,5\n";
    let inputs: Inputs = [("expression", table.as_bytes())].into_iter().collect();
    let check = |inputs: &Inputs, payload: Payload, message: &str| {
        let error = testing::run_unit::<MaxT>(inputs, testing::work(0, payload)).unwrap_err();
        assert!(error.message().contains(message), "{error}\nexpected: {message}");
    };
    assert!(testing::run::<MaxT>(&inputs, [Payload::Range { start: 0, end: 6 }]).is_ok());
    check(&inputs, Payload::Range { start: 5, end: 7 }, "ranks 5..7 go beyond the 6 relabelings");
    check(&inputs, Payload::Range { start: 3, end: 3 }, "ranks 3..3 are none");
    check(
        &inputs,
        Payload::Lines(Vec::new()),
        "maxt works on ranges of ranks: split its job by range, 0 to 6",
    );
    check(&Inputs::new(), Payload::Range { start: 0, end: 6 }, "needs an input named `expression`");
    let mut other = inputs.clone();
    other.insert("class", *b"a \n");
    assert!(testing::run::<MaxT>(&other, [Payload::Range { start: 0, end: 6 }]).is_ok());
    other.insert("class", *b"\xff");
    check(&other, Payload::Range { start: 0, end: 6 }, "input `class` is not UTF-8 text");
}

#[test]
fn what_spreadsheets_write_is_read() {
    let study =
        Study::new(b"\xEF\xBB\xBFgene,name,a, b\r\n\"x,\"\"1\"\"\",\"a, b\",+1, 2.5\r\n\r\n", None).unwrap();
    assert_eq!(study.genes(), ["x,\"1\""]);
    assert_eq!(study.relabelings(), 2);
}
