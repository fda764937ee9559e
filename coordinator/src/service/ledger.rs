//! Money: deposits, balances, earnings, statements, and the check of the books.

use lull_ledger::statement::{Month, MonthError};
use lull_ledger::{AccountKind, Amount, Currency};
use lull_proto::v1;
use lull_proto::v1::ledger_server::Ledger;
use tonic::{Request, Response, Status};

use super::{Context, last_part, statements, status};
use crate::store::{EarningsLine, Holder, Subject};

/// Serves `lull.v1.Ledger`.
pub struct LedgerService {
    context: Context,
}

impl LedgerService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Ledger for LedgerService {
    async fn create_deposit(
        &self,
        request: Request<v1::CreateDepositRequest>,
    ) -> Result<Response<v1::Deposit>, Status> {
        self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let name = last_part(&request.parent, "submitters")?;
        let amount: Amount = request
            .amount
            .parse()
            .map_err(|error: lull_ledger::AmountError| status::invalid("amount", &error.to_string()))?;
        if !amount.is_positive() {
            return Err(status::invalid("amount", &format!("{amount} is not more than zero")));
        }
        if request.request_id.is_empty() {
            return Err(status::invalid(
                "request_id",
                "is missing: give a UUID, so that a retry deposits once",
            ));
        }
        let store = &self.context.store;
        let submitter = store.submitter(name).await.map_err(status::from_store)?;
        let of = store.currency(&request.currency).await.map_err(status::from_store)?;
        if of.currency.payable(amount) != amount {
            // No bank has it: it would be a mistyped amount, or one of another currency.
            let (code, places) = (of.currency, of.currency.decimals());
            let problem = format!("{amount} has more decimal places than {code}, which has {places}");
            return Err(status::invalid("amount", &problem));
        }
        let deposit = store.deposit(submitter, of.id, amount, &request.request_id).await;
        let (id, balance) = deposit.map_err(status::from_store)?;
        tracing::info!(%submitter, %amount, currency = %of.currency, "deposited");
        Ok(Response::new(v1::Deposit {
            name: format!("submitters/{name}/deposits/{id}"),
            amount: amount.to_string(),
            balance: balance.to_string(),
            currency: of.currency.to_string(),
        }))
    }

    async fn reverse_deposit(
        &self,
        request: Request<v1::ReverseDepositRequest>,
    ) -> Result<Response<v1::Reversal>, Status> {
        let operator = self.context.auth.operator(&request).await?;
        let request = request.into_inner();
        let reason = statements::reason(&request.reason)?;
        let (submitter, deposit) = request
            .name
            .split_once("/deposits/")
            .and_then(|(submitter, number)| Some((submitter, number.parse::<i64>().ok()?)))
            .ok_or_else(|| status::invalid("name", "is not a name such as `submitters/clinic/deposits/3`"))?;
        let store = &self.context.store;
        let submitter =
            store.submitter(last_part(submitter, "submitters")?).await.map_err(status::from_store)?;
        let reversed = store.reverse_deposit(submitter, deposit, reason, operator).await;
        let (number, of, amount, balance) = reversed.map_err(status::from_store)?;
        tracing::info!(%submitter, deposit, number, "deposit reversed");
        Ok(Response::new(v1::Reversal {
            number: number.unsigned_abs(),
            amount: amount.to_string(),
            balance: balance.to_string(),
            currency: of.currency.to_string(),
        }))
    }

    async fn get_balance(
        &self,
        request: Request<v1::GetBalanceRequest>,
    ) -> Result<Response<v1::Balance>, Status> {
        let holder = statements::holder(&self.context, &request, &request.get_ref().name).await?;
        let of =
            self.context.store.currency(&request.get_ref().currency).await.map_err(status::from_store)?;
        let _turn = statements::balance_turn(&self.context, &request, holder).await?;
        let balance =
            statements::balances(&self.context.store, holder, Some(of.id)).await?.into_iter().next();
        Ok(Response::new(balance.ok_or_else(|| status::not_found("balance"))?))
    }

    async fn list_balances(
        &self,
        request: Request<v1::ListBalancesRequest>,
    ) -> Result<Response<v1::ListBalancesResponse>, Status> {
        let holder = statements::holder(&self.context, &request, &request.get_ref().name).await?;
        let _turn = statements::balance_turn(&self.context, &request, holder).await?;
        let balances = statements::balances(&self.context.store, holder, None).await?;
        Ok(Response::new(v1::ListBalancesResponse { balances }))
    }

    type ReadBalanceLinesStream = statements::Stream<v1::ReadBalanceLinesResponse>;

    async fn read_balance_lines(
        &self,
        request: Request<v1::ReadBalanceLinesRequest>,
    ) -> Result<Response<Self::ReadBalanceLinesStream>, Status> {
        let holder = statements::holder(&self.context, &request, &request.get_ref().name).await?;
        let Holder::Owner(owner) = holder else {
            return Err(status::invalid("name", "is a submitter: only balances of owners have such lines"));
        };
        let parts = statements::balance_parts(request.get_ref())?;
        let store = self.context.store.clone();
        let of = store.currency(&request.get_ref().currency).await.map_err(status::from_store)?;
        let turn = statements::turn(&self.context, &request).await?;
        Ok(Response::new(statements::balance_lines(store, owner, of, parts, turn)))
    }

    type ReadStatementStream = statements::Stream<v1::ReadStatementResponse>;

    async fn read_statement(
        &self,
        request: Request<v1::ReadStatementRequest>,
    ) -> Result<Response<Self::ReadStatementStream>, Status> {
        let holder = statements::holder(&self.context, &request, &request.get_ref().name).await?;
        let month = request.get_ref().month.parse();
        let month: Month = month.map_err(|error: MonthError| status::invalid("month", &error.to_string()))?;
        let store = self.context.store.clone();
        let only = match request.get_ref().currency.as_str() {
            "" => None,
            code => Some(store.currency(code).await.map_err(status::from_store)?.id),
        };
        let turn = statements::turn(&self.context, &request).await?;
        Ok(Response::new(statements::statement(store, holder, month, only, turn)))
    }

    async fn get_earnings(
        &self,
        request: Request<v1::GetEarningsRequest>,
    ) -> Result<Response<v1::Earnings>, Status> {
        let subject = self.context.auth.subject(&request).await?;
        let _turn = statements::turn(&self.context, &request).await?;
        let name = request.into_inner().name;
        let store = &self.context.store;
        let owner = match (subject, name.as_str()) {
            (Subject::Operator(_), "") => None,
            (Subject::Owner(id), "") => Some(id),
            (Subject::Submitter(_), _) => return Err(status::denied("earnings are for owners")),
            (subject, name) => {
                let asked = store.owner(last_part(name, "owners")?).await.map_err(status::from_store)?;
                if !matches!(subject, Subject::Operator(_)) && subject != Subject::Owner(asked) {
                    return Err(status::denied("these are another owner's earnings"));
                }
                Some(asked)
            }
        };
        let owners = store.earnings(owner).await.map_err(status::from_store)?;
        let line = |line: EarningsLine| v1::EarningsLine {
            key: line.key,
            amount: line.amount.to_string(),
            attempts: line.attempts,
        };
        let owners = owners.into_iter().map(|earned| {
            let [by_device, by_job, by_day] = earned.lines.map(|lines| lines.into_iter().map(line).collect());
            let [pending, available, payout, paid, remainder] =
                earned.balances.map(|balance| balance.to_string());
            v1::OwnerEarnings {
                pending,
                available,
                payout,
                paid,
                remainder,
                currency: earned.currency.to_string(),
                owner: format!("owners/{}", earned.owner),
                total: earned.total.to_string(),
                attempts: earned.attempts,
                by_device,
                by_job,
                by_day,
            }
        });
        Ok(Response::new(v1::Earnings { owners: owners.collect() }))
    }

    async fn check_books(
        &self,
        request: Request<v1::CheckBooksRequest>,
    ) -> Result<Response<v1::Books>, Status> {
        self.context.auth.operator(&request).await?;
        let books = self.context.store.check_books().await.map_err(status::from_store)?;
        for fault in &books.faults {
            tracing::error!(fault, "the books do not balance");
        }
        let total = |(currency, kind, balance): &(Currency, AccountKind, Amount)| v1::AccountTotal {
            kind: kind.name().to_owned(),
            balance: balance.to_string(),
            currency: currency.to_string(),
        };
        let sum = |(currency, sum): &(Currency, Amount)| v1::CurrencySum {
            currency: currency.to_string(),
            sum: sum.to_string(),
        };
        Ok(Response::new(v1::Books {
            sums: books.sums.iter().map(sum).collect(),
            transfers: books.transfers,
            accounts: books.accounts,
            totals: books.totals.iter().map(total).collect(),
            faults: books.faults,
        }))
    }
}
