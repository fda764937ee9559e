//! From a message that anybody may have sent to a job that can be accepted.

use lull_job::{Digest, Plan, Reduce, Spec, Split, check_module, count_lines};
use lull_ledger::Amount;
use lull_proto::v1;
use tonic::Status;

use super::{Context, status};
use crate::core::{Copies, Prices, SubmitterId, expected_cost, service_owners, tolerance};
use crate::store::NewJob;

/// Units that are made from the work of a job whose own split says how much work there is: for how many owners they take.
const MADE_AFTER_SPLIT: u64 = 200;
/// A request id: a UUID has 36 characters.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Owners that take part in a job, at least: for a price, when nobody is there yet.
const OWNERS_EXPECTED: u64 = 3;

/// Checks a submission: every field, the module, the blobs, the money.
///
/// # Errors
/// The first thing that is wrong, with its field and remedy.
pub(super) async fn check(
    context: &Context,
    submitter: SubmitterId,
    request: v1::CreateJobRequest,
) -> Result<NewJob, Status> {
    let request_id = request.request_id;
    if !request.validate_only && (request_id.is_empty() || request_id.len() > REQUEST_ID_BYTES_MAX) {
        let problem =
            format!("give a UUID, at most {REQUEST_ID_BYTES_MAX} bytes: it makes submitting twice safe");
        return Err(status::invalid("request_id", &problem));
    }
    let mut message = request.spec.ok_or_else(|| status::invalid("spec", "is missing"))?;
    let spec = Spec::check(&message).map_err(|error| status::invalid(error.field, &error.problem))?;
    let prices = prices(&message)?;
    let currency = context.store.currency(&message.currency).await.map_err(status::from_store)?;
    message.currency = currency.currency.to_string();
    check_blobs(context, submitter, &spec).await?;
    let items = count_items(context, &spec).await?;
    let plan = spec.plan(items);
    let too_large = |error: lull_ledger::AmountError| status::invalid("item_price", &error.to_string());
    let tolerance = tolerance(spec.max_error, spec.max_answer_error, plan.work_units());
    let hints = context.grid.hints();
    let owners = hints.grid_owners.max(OWNERS_EXPECTED);
    let copies = match tolerance {
        Some(tolerance) => Copies::for_error(tolerance, hints.policy.liars, owners, plan.work_units()),
        None => Copies::whole(spec.copies),
    };
    let made = plan.service_units().total();
    // What a split will list is not known yet.
    let made = if plan.has_split { made.max(MADE_AFTER_SPLIT) } else { made };
    let service_owners = service_owners(spec.max_answer_error, hints.policy.liars, made);
    let strangers = if tolerance.is_some() { owners } else { 0 };
    let expected = expected_cost(&plan, prices, copies, service_owners, strangers).map_err(too_large)?;
    let longest = prices.item.times(plan.items_per_unit.min(plan.items)).map_err(too_large)?;
    // What somebody may name must not depend on who is there: submitting again gives the same job.
    let least = match tolerance {
        Some(_) => expected_cost(&plan, prices, Copies::whole(1), service_owners, 0).map_err(too_large)?,
        None => expected,
    };
    let has_default_budget = message.budget.is_empty();
    let budget = budget(&message, &spec, expected, least, longest.max(prices.service))?;
    fill_in(&mut message, &spec, &plan, prices, budget);
    let order_key = rand::random();
    Ok(NewJob {
        submitter,
        request_id,
        message,
        spec,
        items,
        currency,
        prices,
        fee: context.fee,
        copies,
        service_owners,
        strangers,
        budget,
        has_default_budget,
        order_key,
    })
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn amount(field: &str, text: &str) -> Result<Amount, Status> {
    text.parse().map_err(|error: lull_ledger::AmountError| status::invalid(field, &error.to_string()))
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn prices(message: &v1::JobSpec) -> Result<Prices, Status> {
    let item = amount("item_price", &message.item_price)?;
    let service = if message.service_price.is_empty() {
        item
    } else {
        amount("service_price", &message.service_price)?
    };
    for (field, price) in [("item_price", item), ("service_price", service)] {
        if !price.is_positive() {
            return Err(status::invalid(
                field,
                &format!("{price} is not a price: every verified unit is paid"),
            ));
        }
    }
    Ok(Prices { item, service })
}

/// What the submitter left to the defaults: a job says what it is, not what was typed.
fn fill_in(message: &mut v1::JobSpec, spec: &Spec, plan: &Plan, prices: Prices, budget: Amount) {
    message.copies =
        if tolerance(spec.max_error, spec.max_answer_error, 1).is_some() { 0 } else { spec.copies };
    message.merge_fan_in = spec.merge_fan_in;
    message.limits = Some(spec.limits);
    message.item_price = prices.item.to_string();
    message.service_price = prices.service.to_string();
    message.budget = budget.to_string();
    message.reduce = match spec.reduce {
        Reduce::Tree => v1::Reduce::Tree.into(),
        Reduce::None => v1::Reduce::None.into(),
    };
    if plan.items > 0 {
        message.items_per_unit = plan.items_per_unit;
    }
}

/// The budget asked for, or the default: the expected cost and a quarter, and at least one attempt more, so
/// that two owners who disagree do not stop a small job.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn budget(
    message: &v1::JobSpec,
    spec: &Spec,
    expected: Amount,
    least: Amount,
    attempt: Amount,
) -> Result<Amount, Status> {
    if message.budget.is_empty() {
        if spec.split == Split::Module {
            return Err(status::invalid(
                "budget",
                "is needed: what the job costs is known only after its own split",
            ));
        }
        let budget = expected.and_a_quarter().and_then(|budget| Ok(budget.max(expected.plus(attempt)?)));
        return budget.map_err(|error| status::invalid("budget", &error.to_string()));
    }
    let budget = amount("budget", &message.budget)?;
    if budget < least || !budget.is_positive() {
        let currency = &message.currency;
        let problem = format!(
            "{budget} {currency} does not cover the expected cost of {least} {currency}: give at least that"
        );
        return Err(status::invalid("budget", &problem));
    }
    Ok(budget)
}

async fn check_blobs(context: &Context, submitter: SubmitterId, spec: &Spec) -> Result<(), Status> {
    let mut files = vec![("module", &spec.module)];
    files.extend(spec.inputs.iter().map(|input| ("inputs", input)));
    match &spec.split {
        Split::Lines(file) => files.push(("split.lines", file)),
        Split::Files(list) => files.extend(list.iter().map(|file| ("split.files", file))),
        Split::Range { .. } | Split::Grid(_) | Split::Module => {}
    }
    let digests: Vec<Digest> = files.iter().map(|(_, file)| file.digest).collect();
    let missing = context.store.missing_blobs(submitter, &digests).await.map_err(status::from_store)?;
    if let Some((field, file)) = files.iter().find(|(_, file)| missing.contains(&file.digest)) {
        return Err(status::invalid(
            field,
            &format!("`{}` has not been uploaded: write its blob first", file.name),
        ));
    }
    let module = context.blobs.read(spec.module.digest).await.map_err(status::from_blobs)?;
    let checked = tokio::task::spawn_blocking(move || check_module(&module)).await;
    let checked = checked.map_err(|_| status::invalid("module", "could not be checked"))?;
    let kind = checked.map_err(|error| status::invalid("module", &error.to_string()))?;
    kind.check(spec).map_err(|error| status::invalid(error.field, &error.problem))
}

async fn count_items(context: &Context, spec: &Spec) -> Result<u64, Status> {
    let Split::Lines(file) = &spec.split else { return Ok(spec.split.items().unwrap_or(0)) };
    let content = context.blobs.read(file.digest).await.map_err(status::from_blobs)?;
    match count_lines(&content) {
        0 => Err(status::invalid(
            "split.lines",
            &format!("`{}` has no lines: there is nothing to do", file.name),
        )),
        lines => Ok(lines),
    }
}
