//! `lull submit`: a job file becomes a job.

use std::path::PathBuf;

use clap::Args;
use lull_job::JobFile;
use lull_proto::v1;

use super::job_input::{self, Cut, JobInput};
use super::{upload, watch};
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, interruptible, until_answered};
use crate::out::{self, Format};
use crate::text::{amount, human, name};
use crate::view;

/// Submit a job file: upload what it names, check it, start it
///
/// Prints the job's name. Whoever owns a PC that runs units of the job can read its module and inputs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull submit job.toml
  lull submit job.toml --pilot 20 --budget 12.50 --watch
  lull submit job.toml --items 0..1_000_000 --items-per-unit 50_000 --validate-only
  lull submit job.toml --max-error 1e-4

--name, --pilot, --budget, --copies, --max-error, --max-answer-error, --priority,
--items and --items-per-unit replace what the job file says.

JSON: the job as `lull jobs JOB` prints it; with --watch one such line at every
change, the last one the end.")]
pub(crate) struct SubmitArgs {
    /// The job file
    #[arg(value_name = "JOB.TOML")]
    file: PathBuf,
    /// Run only N evenly spaced units, and project what the whole job would take; 0 runs all
    #[arg(long, value_name = "N")]
    pilot: Option<u64>,
    /// The most that the job may cost
    #[arg(long, value_name = "AMOUNT", value_parser = amount::parse)]
    budget: Option<String>,
    /// What prices and budget are in; nothing is converted [default: what the job file says, or the grid's default]
    #[arg(long, value_name = "CODE", value_parser = name::currency)]
    currency: Option<String>,
    /// Owners that must agree on each result
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    copies: Option<u32>,
    /// Share of accepted units that may be wrong, instead of copies: 0.0001 for one in ten thousand
    #[arg(long, value_name = "SHARE", conflicts_with = "copies")]
    max_error: Option<f64>,
    /// Chance that the answer may be wrong, instead of copies
    #[arg(long, value_name = "CHANCE", conflicts_with = "copies")]
    max_answer_error: Option<f64>,
    /// Order among your own jobs, higher first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Shown to people
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    cut: Cut,
    /// Name of this request: the same one gives the same job, however often it is sent
    #[arg(long, value_name = "UUID", value_parser = name::request_id)]
    request_id: Option<String>,
    /// Check everything, start nothing
    #[arg(long, conflicts_with = "watch")]
    validate_only: bool,
    /// Then follow the job to its end, as `lull watch`
    #[arg(long)]
    watch: bool,
}

impl SubmitArgs {
    fn apply(&self, file: &mut JobFile) -> Result<()> {
        fn replace<T: Clone>(value: &mut T, with: Option<&T>) {
            if let Some(with) = with {
                value.clone_from(with);
            }
        }
        replace(&mut file.pilot_units, self.pilot.as_ref());
        replace(&mut file.pay.budget, self.budget.as_ref());
        replace(&mut file.pay.currency, self.currency.as_ref());
        if self.copies.is_some() {
            (file.max_error, file.max_answer_error) = (0.0, 0.0);
        }
        if self.max_error.is_some() || self.max_answer_error.is_some() {
            file.copies = 0;
        }
        replace(&mut file.copies, self.copies.as_ref());
        replace(&mut file.max_error, self.max_error.as_ref());
        replace(&mut file.max_answer_error, self.max_answer_error.as_ref());
        replace(&mut file.priority, self.priority.as_ref());
        replace(&mut file.name, self.name.as_ref());
        self.cut.apply(file)
    }
}

/// Everything that can be checked without a coordinator.
///
/// # Errors
/// What is wrong with the job file or a file that it names.
pub(crate) fn prepare(args: &SubmitArgs) -> Result<JobInput> {
    let file = job_input::read_file(&args.file, |file| args.apply(file))?;
    job_input::check(&file)
}

/// Uploads and creates the job, and watches it if asked.
///
/// # Errors
/// The coordinator's refusal; with `--watch` also a job that ends without an answer.
pub(crate) async fn run(grid: &Grid, args: &SubmitArgs, input: JobInput, format: Format) -> Result<()> {
    let warning = input.warning();
    let job = interruptible(create(grid, args, input)).await?;
    if let Some(warning) = warning {
        out::say(warning);
    }
    if args.validate_only {
        out::say(&format!("the job is valid: {}. Nothing was started.", cost(&job)));
        return if format == Format::Json { out::json(&view::Job::from(&job)) } else { Ok(()) };
    }
    match format {
        Format::Json => out::json(&view::Job::from(&job))?,
        Format::Table => out::line(&job.name)?,
    }
    out::say(&format!("{} is accepted: {}.", job.name, cost(&job)));
    if let Some(confidence) = &job.confidence {
        out::say(&promise(confidence));
    }
    out::say("The owners of the PCs that run its units can read its module and inputs.");
    if args.watch {
        return watch::run(grid, &job.name, format).await;
    }
    out::say(&format!("Follow it with `lull watch {0}`, read its answer with `lull results {0}`.", job.name));
    Ok(())
}

async fn create(grid: &Grid, args: &SubmitArgs, input: JobInput) -> Result<v1::Job> {
    upload::upload(grid, &input.blobs).await?;
    let request = v1::CreateJobRequest {
        spec: Some(input.message),
        request_id: args.request_id.clone().unwrap_or_else(name::random_request_id),
        validate_only: args.validate_only,
    };
    until_answered(grid, || {
        let (mut client, request) = (grid.jobs(), request.clone());
        async move { client.create_job(request).await }
    })
    .await
    .map_err(|error| match error.exit {
        // Whether the job is there is not known; the same request finds out.
        Exit::Unreachable => Error::new(
            error.exit,
            format!("{error}. It may have taken the job: repeat with --request-id {}", request.request_id),
        ),
        _ => error,
    })
}

/// What the confidence that a job buys means, in one sentence.
#[allow(clippy::float_arithmetic, reason = "for people")]
fn promise(confidence: &v1::Confidence) -> String {
    format!(
        "At most {:.2} wrong units of {} are expected, with {:.2} copies of each on average, as long as no more than {:.0} % of \
         the owners lie; owners that the grid does not know yet are checked more.",
        confidence.wrong_units,
        human::count(confidence.work_units),
        confidence.copies,
        confidence.assumed_liars * 100.0
    )
}

/// What a job is and costs, in one sentence.
fn cost(job: &v1::Job) -> String {
    let units = job.progress.as_ref().map_or(0, |progress| progress.units);
    let costs = job.costs.clone().unwrap_or_default();
    let spec = job.spec.clone().unwrap_or_default();
    let money = |text: &str| amount::money(text, &spec.currency);
    let budget = money(&costs.budget);
    // Before the module's own split has run, nobody knows how many units there are.
    if let Some(v1::split::Kind::Module(_)) = spec.split.as_ref().and_then(|split| split.kind.as_ref()) {
        return format!(
            "its own split says how many units it has; {budget} at most, what is not spent comes back"
        );
    }
    let fee = match costs.fee_percent.as_str() {
        "" | "0" => String::new(),
        percent => format!(" (with the platform's {percent} %, {})", money(&costs.expected_fee)),
    };
    let pilot = if spec.pilot_units > 0 { " (a pilot)" } else { "" };
    format!(
        "{}{pilot} for {}{fee} if all goes well, {budget} at most; what is not spent comes back",
        human::counted(units, "unit"),
        money(&costs.expected),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn submit(flags: &[&str]) -> std::result::Result<SubmitArgs, clap::Error> {
        let cli = Cli::try_parse_from([&["lull", "submit", "job.toml"], flags].concat())?;
        let Command::Submit(args) = cli.command else { panic!("submit") };
        Ok(args)
    }

    #[test]
    fn flags_replace_what_the_job_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        let text = "module = \"m.wasm\"\nname = \"study\"\ncopies = 2\nsplit.range = { end = 10 }\n\
                    pay = { item_price = \"1\", budget = \"5\" }";
        std::fs::write(&path, text).unwrap();
        let flags =
            ["--pilot", "3", "--budget", "7.5", "--currency", "JPY", "--priority", "-2", "--items", "4..6"];
        let args = submit(&flags).unwrap();
        let file = job_input::read_file(&path, |file| args.apply(file)).unwrap();
        assert_eq!((file.pilot_units, file.pay.budget.as_str(), file.priority), (3, "7.5", -2));
        assert_eq!((file.name.as_str(), file.copies, file.pay.currency.as_str()), ("study", 2, "JPY"));
        assert_eq!(file.split, lull_job::SplitFile::Range { start: 4, end: 6 });
    }

    #[test]
    fn a_cost_is_told_before_and_after_it_is_known() {
        let job = |split| v1::Job {
            spec: Some(v1::JobSpec {
                split: Some(v1::Split { kind: Some(split) }),
                pilot_units: 20,
                currency: "JPY".to_owned(),
                ..Default::default()
            }),
            progress: Some(v1::Progress { units: 22, ..Default::default() }),
            costs: Some(v1::Costs {
                expected: "10".to_owned(),
                budget: "12.5".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let range = job(v1::split::Kind::Range(v1::IntegerRange { start: 0, end: 9 }));
        assert_eq!(
            cost(&range),
            "22 units (a pilot) for 10.000000 JPY if all goes well, 12.500000 JPY at most; what is not spent comes back"
        );
        let module = job(v1::split::Kind::Module(v1::ModuleSplit {}));
        assert!(cost(&module).starts_with("its own split says how many units"), "{}", cost(&module));
    }

    #[test]
    fn wrong_flags_are_refused() {
        let check = |flags: &[&str], expected: &str| {
            let error = submit(flags).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&["--currency", "euro"], "code of ISO 4217");
        check(&["--budget", "ten"], "write an exact decimal");
        check(&["--items", "9..3"], "the range is empty");
        check(&["--copies", "0"], "0 is not in");
        check(&["--request-id", "1"], "write a UUID");
        check(&["--validate-only", "--watch"], "cannot be used with");
    }
}
