//! `lull admin`: submitters, owners, operators and tokens; payouts are in [`payouts`], referees in [`referees`], currencies in [`currencies`].

use clap::{Args, Subcommand, ValueEnum};
use lull_proto::v1;
use serde::Serialize;

use crate::commands::{currencies, payouts, referees};
use crate::error::{Error, Result};
use crate::grid::{Grid, interruptible, until_answered};
use crate::out::{self, Format};
use crate::text::{amount, human, name};

/// Create submitters, owners, operators and tokens; name referees; pay owners out (operators)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull admin create-submitter clinic
  lull admin create-token --role submitter --subject clinic > clinic.token
  lull admin payout propose --minimum 10")]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    #[command(name = "create-submitter")]
    Submitter(CreateSubmitter),
    #[command(name = "create-owner")]
    Owner(CreateOwner),
    #[command(name = "create-token")]
    Token(CreateToken),
    #[command(name = "create-enrolment-token")]
    EnrolmentToken(CreateEnrolmentToken),
    #[command(subcommand)]
    Operator(OperatorCommand),
    #[command(subcommand)]
    Currency(currencies::CurrencyCommand),
    #[command(subcommand)]
    Referee(referees::RefereeCommand),
    #[command(subcommand)]
    Payer(payouts::PayerCommand),
    #[command(subcommand)]
    Payee(payouts::PayeeCommand),
    #[command(subcommand)]
    Payout(payouts::PayoutCommand),
    ReverseDeposit(ReverseDeposit),
}

/// Create a submitter: somebody who pays for jobs. An existing one is left as it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lull admin create-submitter clinic\n\nJSON: {name}")]
struct CreateSubmitter {
    /// Letters, digits, dots and dashes
    #[arg(value_name = "NAME", value_parser = name::submitter)]
    name: String,
}

/// Create an owner: somebody whose PCs earn. An existing one is left as it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lull admin create-owner bob\n\nJSON: {name}")]
struct CreateOwner {
    /// Letters, digits, dots and dashes
    #[arg(value_name = "NAME", value_parser = name::owner)]
    name: String,
}

/// Operators with a name, who may take part in payouts
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  lull admin operator add alice > alice.token")]
enum OperatorCommand {
    /// Add one, with a token. It is shown this once, alone on stdout; a name is given once
    ///
    /// Only with the token in the coordinator's state directory: whoever has two names can approve alone.
    #[command(after_help = "Example:\n  lull admin operator add alice > alice.token\n\nJSON: {name, token}")]
    Add {
        /// Letters, digits, dots and dashes
        #[arg(value_name = "NAME", value_parser = name::operator)]
        name: String,
    },
}

/// Undo a deposit: the only way to correct one. Again it changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull admin reverse-deposit submitters/clinic/deposits/3 --reason \"the bank took it back\"

JSON: {reversal, currency, amount, balance}")]
struct ReverseDeposit {
    /// The deposit, as `lull fund --output json` names it
    #[arg(value_name = "NAME")]
    deposit: String,
    /// Why, for the books
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Create a token for a person or a program. It is shown this once, alone on stdout
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull admin create-token --role operator
  LULL_TOKEN=$(lull admin create-token --role submitter --subject clinic)

JSON: {token}")]
struct CreateToken {
    /// What its bearer may do
    #[arg(long, value_enum)]
    role: Role,
    /// The submitter or owner that it speaks for; operators have none
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Runs the grid
    Operator,
    /// Submits and reads jobs, and pays for them
    Submitter,
    /// Sees devices and earnings
    Owner,
}

/// Create a token with which PCs of one owner join the grid. It is shown this once, alone on stdout
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull admin create-enrolment-token --owner bob --uses 20 --ttl-secs 86400

JSON: {token, expire_time}")]
struct CreateEnrolmentToken {
    /// The owner
    #[arg(long, value_name = "NAME", value_parser = name::owner)]
    owner: String,
    /// PCs that may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// Seconds that it is good for
    #[arg(long, value_name = "N", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..))]
    ttl_secs: u64,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
}

#[derive(Debug, Serialize)]
struct Operator {
    name: String,
    token: String,
}

#[derive(Debug, Serialize)]
struct Reversal {
    reversal: u64,
    currency: String,
    amount: String,
    balance: String,
}

#[derive(Debug, Serialize)]
struct Token {
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
}

/// Runs one of them.
///
/// # Errors
/// The coordinator's refusal; a subject that does not fit its role.
pub(crate) async fn run(grid: &Grid, args: AdminArgs, format: Format) -> Result<()> {
    interruptible(async {
        match args.command {
            AdminCommand::Submitter(args) => create_submitter(grid, &args, format).await,
            AdminCommand::Owner(args) => create_owner(grid, &args, format).await,
            AdminCommand::Token(args) => create_token(grid, &args, format).await,
            AdminCommand::EnrolmentToken(args) => create_enrolment_token(grid, args, format).await,
            AdminCommand::Operator(OperatorCommand::Add { name }) => add_operator(grid, &name, format).await,
            AdminCommand::Currency(command) => currencies::run(grid, command, format).await,
            AdminCommand::Referee(command) => referees::run(grid, command, format).await,
            AdminCommand::Payer(command) => payouts::payer(grid, command, format).await,
            AdminCommand::Payee(command) => payouts::payee(grid, command, format).await,
            AdminCommand::Payout(command) => payouts::payout(grid, command, format).await,
            AdminCommand::ReverseDeposit(args) => reverse_deposit(grid, args, format).await,
        }
    })
    .await
}

async fn create_submitter(grid: &Grid, args: &CreateSubmitter, format: Format) -> Result<()> {
    let request = v1::CreateSubmitterRequest { submitter_id: id(&args.name) };
    let response = grid.admin().create_submitter(request).await.map_err(|status| grid.explain(&status))?;
    print_name(response.into_inner().name, format)
}

async fn create_owner(grid: &Grid, args: &CreateOwner, format: Format) -> Result<()> {
    let request = v1::CreateOwnerRequest { owner_id: id(&args.name) };
    let response = grid.admin().create_owner(request).await.map_err(|status| grid.explain(&status))?;
    print_name(response.into_inner().name, format)
}

async fn add_operator(grid: &Grid, name: &str, format: Format) -> Result<()> {
    let request = v1::CreateOperatorRequest { operator_id: id(name) };
    let response = grid.admin().create_operator(request).await.map_err(|status| grid.explain(&status))?;
    let v1::Operator { name, token } = response.into_inner();
    match format {
        Format::Json => out::json(&Operator { name, token })?,
        Format::Table => out::line(&token)?,
    }
    out::say("Keep this token: it is not shown again.");
    Ok(())
}

async fn reverse_deposit(grid: &Grid, args: ReverseDeposit, format: Format) -> Result<()> {
    let request = v1::ReverseDepositRequest { name: args.deposit, reason: args.reason };
    let v1::Reversal { number, amount, balance, currency } = until_answered(grid, || {
        let (mut client, request) = (grid.ledger(), request.clone());
        async move { client.reverse_deposit(request).await }
    })
    .await?;
    match format {
        Format::Json => out::json(&Reversal { reversal: number, currency, amount, balance }),
        Format::Table => out::line(&format!(
            "{} of {} reversed: the balance is {}",
            amount::money(&amount, &currency),
            request.name,
            amount::money(&balance, &currency)
        )),
    }
}

/// `alice` of `submitters/alice`.
fn id(name: &str) -> String {
    name.split_once('/').map_or(name, |(_, id)| id).to_owned()
}

fn print_name(name: String, format: Format) -> Result<()> {
    match format {
        Format::Json => out::json(&Named { name }),
        Format::Table => out::line(&name),
    }
}

async fn create_token(grid: &Grid, args: &CreateToken, format: Format) -> Result<()> {
    let (role, subject) = subject(args)?;
    let request = v1::CreateApiTokenRequest { role: role.into(), subject };
    let response = grid.admin().create_api_token(request).await.map_err(|status| grid.explain(&status))?;
    let token = response.into_inner().token;
    match format {
        Format::Json => out::json(&Token { token, expire_time: None })?,
        Format::Table => out::line(&token)?,
    }
    out::say("Keep this token: it is not shown again.");
    Ok(())
}

fn subject(args: &CreateToken) -> Result<(v1::Role, String)> {
    let named = |parse: fn(&str) -> std::result::Result<String, String>| {
        let subject = args.subject.as_deref().ok_or("this role speaks for somebody: name them".to_owned());
        subject.and_then(parse).map_err(|error| Error::usage(format!("--subject: {error}")))
    };
    match args.role {
        Role::Operator if args.subject.is_some() => {
            Err(Error::usage("--subject: an operator speaks for nobody: leave it out"))
        }
        Role::Operator => Ok((v1::Role::Operator, String::new())),
        Role::Submitter => Ok((v1::Role::Submitter, named(name::submitter)?)),
        Role::Owner => Ok((v1::Role::Owner, named(name::owner)?)),
    }
}

async fn create_enrolment_token(grid: &Grid, args: CreateEnrolmentToken, format: Format) -> Result<()> {
    let request = v1::CreateEnrolmentTokenRequest {
        parent: args.owner.clone(),
        uses: args.uses,
        ttl_secs: args.ttl_secs,
    };
    let response =
        grid.admin().create_enrolment_token(request).await.map_err(|status| grid.explain(&status))?;
    let v1::EnrolmentToken { token, expire_time } = response.into_inner();
    let until = human::time(expire_time.as_ref());
    match format {
        Format::Json => {
            out::json(&Token { token, expire_time: expire_time.map(|time| time.to_string()) })?;
        }
        Format::Table => out::line(&token)?,
    }
    out::say(&format!(
        "{} of {} may join with it until {until} UTC. It is not shown again.",
        human::counted(u64::from(args.uses), "PC"),
        args.owner
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_fit_their_roles() {
        let check = |role: Role, given: Option<&str>, expected: Option<&str>| {
            let args = CreateToken { role, subject: given.map(str::to_owned) };
            assert_eq!(subject(&args).ok().map(|(_, subject)| subject).as_deref(), expected, "{args:?}");
        };
        check(Role::Operator, None, Some(""));
        check(Role::Operator, Some("bob"), None);
        check(Role::Submitter, Some("clinic"), Some("submitters/clinic"));
        check(Role::Submitter, Some("owners/bob"), None);
        check(Role::Submitter, None, None);
        check(Role::Owner, Some("owners/bob"), Some("owners/bob"));
    }
}
