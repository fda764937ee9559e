//! The leukaemia study is right: through sandbox, merges, finish and verification, however it is cut.

use anyhow::Result;
use lull_tests::money::{field, parts};
use lull_tests::{Grid, JobFile, study};

const OWNERS: [&str; 3] = ["ada", "grace", "mary"];

#[test]
fn test_vectors_hold_and_every_owner_is_paid() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "10")?;
    let _agents = grid.agents(OWNERS)?;
    let vectors = [
        ("0..3000", (2_875_495, 8_629_001)),
        ("601661144..601664144", (2_566_251, 8_241_963)),
        ("1203319288..1203322288", (2_734_337, 8_424_387)),
    ];

    let submit =
        |range| grid.submit(&token, &study::job_file(), &["--items", range, "--items-per-unit", "1500"]);
    let jobs: Vec<String> = vectors.iter().map(|(range, _)| submit(range)).collect::<Result<_>>()?;

    for ((range, expected), job) in vectors.iter().zip(&jobs) {
        let genes = study::read_answer(&grid.answer(&token, job)?)?;
        assert_eq!(genes.len(), 3051, "{range}");
        assert_eq!(study::sums(&genes), *expected, "{range}");
        grid.check_money(job)?;
        // Two copies of 3,000 relabelings, of one merge and of the finish.
        let spent = field(&grid.job(job)?["costs"], "spent");
        assert_eq!(spent, 2 * (3000 * parts("0.000001") + 2 * parts("0.01")), "{range}");
        let attempts: u64 = grid.paid(job)?.iter().map(|(_, _, attempts)| attempts).sum();
        assert_eq!(attempts, 2 * (2 + 1 + 1), "{range}");
    }
    Ok(())
}

#[test]
fn however_it_is_cut_the_answer_is_the_definition() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let _agents = grid.agents(OWNERS)?;
    let cut = |name: &str, items_per_unit: u64, fan_in: u32| {
        JobFile::of("maxt")
            .path("inputs.expression", &study::table())
            .set("split.range", "{ start = 777_777_000, end = 777_777_300 }")
            .set("items_per_unit", items_per_unit)
            .set("merge_fan_in", fan_in)
            .write(grid.dir(), name)
    };
    let (whole, fine) = (cut("whole", 300, 32)?, cut("fine", 100, 2)?);

    let jobs = [grid.submit(&token, &whole, &[])?, grid.submit(&token, &fine, &[])?];
    let local = grid.run_local(&fine, &[])?;

    let expected = study::by_definition(777_777_000..777_777_300)?;
    assert_eq!(study::read_answer(&local)?, expected);
    for job in &jobs {
        assert_eq!(grid.answer(&token, job)?, local, "{job}");
        grid.check_money(job)?;
    }
    let fine = grid.job(&jobs[1])?;
    // 3 units of work, merged by twos: 2 and 1; and the finish.
    assert_eq!(fine["progress"]["units_accepted"], 3 + 2 + 1 + 1, "{fine}");
    assert_eq!(fine["progress"]["attempts_judged"], 2 * 7, "{fine}");
    Ok(())
}

#[test]
fn a_pilot_tells_what_the_whole_study_takes() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "10")?;
    let _agents = grid.agents(OWNERS)?;

    let pilot = grid.submit(&token, &study::job_file(), &["--pilot", "2"])?;
    let answer = grid.answer(&token, &pilot)?;

    let job = grid.job(&pilot)?;
    let projection = &job["projection"];
    assert_eq!(projection["units"], 2407, "{job}");
    assert_eq!(projection["items"], 1_203_322_288, "{job}");
    // By 32: 76 merges, 3, 1; and the finish. Two copies of everything.
    let cost = 2 * (1_203_322_288 * parts("0.000001") + (76 + 3 + 1 + 1) * parts("0.01"));
    assert_eq!(field(projection, "cost"), cost, "{job}");
    assert!(projection["cpu_micros"].as_u64() > projection["cpu_micros_one_copy"].as_u64(), "{job}");
    assert_eq!(job["progress"]["items_accepted"], 1_000_000, "{job}");
    assert_eq!(answer, grid.run_local(&study::job_file(), &["--units", "2"])?);
    grid.check_money(&pilot)
}

#[test]
fn the_units_of_a_pilot_are_evenly_spaced() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "10")?;
    let _agents = grid.agents(OWNERS)?;
    let file = JobFile::of("probe")
        .set("split.range", "{ start = 100, end = 123 }")
        .set("items_per_unit", 2)
        .set("reduce", "\"none\"")
        .write(grid.dir(), "spaced")?;

    let job = grid.submit(&token, &file, &["--pilot", "5"])?;
    let results = String::from_utf8(grid.answer(&token, &job)?)?;

    // floor(i * 12 / 5), as the study's page defines it.
    assert_eq!(results, "0\t100\\n101\n2\t104\\n105\n4\t108\\n109\n7\t114\\n115\n9\t118\\n119\n");
    grid.check_money(&job)
}
