//! `lull admin currency`: what money of this grid can be in.

use clap::Subcommand;
use lull_proto::v1;
use serde::Serialize;

use crate::error::Result;
use crate::grid::{Grid, until_answered};
use crate::out::{self, Align, Format};
use crate::text::{human, name};

/// Currencies: each account is in one, and nothing is converted
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  lull admin currency add JPY
  lull admin currency add CREDIT --decimals 2
  lull admin currency list

The default is said once, when the grid is made: `lull-coordinator serve --currency`.")]
pub(crate) enum CurrencyCommand {
    /// Add one, with an account in it for everybody. It cannot be removed or changed; again it changes nothing
    #[command(after_help = "\
Examples:
  lull admin currency add JPY
  lull admin currency add CREDIT --decimals 2

JSON: {code, decimals, default}")]
    Add {
        /// A code of ISO 4217, or one of your own in 4 to 12 capital letters
        #[arg(value_name = "CODE", value_parser = name::currency)]
        code: String,
        /// Decimals that can be paid in it, 0 to 6; ISO 4217 says those of its own
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=6))]
        decimals: Option<u32>,
    },
    /// List them, the default first
    #[command(after_help = "\
Example:
  lull admin currency list

JSON: [{code, decimals, default}, ..]")]
    List,
}

#[derive(Debug, Serialize)]
struct Currency {
    code: String,
    decimals: u32,
    default: bool,
}

impl From<v1::Currency> for Currency {
    fn from(v1::Currency { code, decimals, default }: v1::Currency) -> Self {
        Self { code, decimals, default }
    }
}

/// Adds or lists.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, command: CurrencyCommand, format: Format) -> Result<()> {
    match command {
        CurrencyCommand::Add { code, decimals } => {
            let request = v1::AddCurrencyRequest { code, decimals };
            let added = until_answered(grid, || {
                let (mut client, request) = (grid.admin(), request.clone());
                async move { client.add_currency(request).await }
            })
            .await?;
            match format {
                Format::Json => out::json(&Currency::from(added)),
                Format::Table => {
                    out::line(&format!("{} has {} decimals", human::plain(&added.code), added.decimals))
                }
            }
        }
        CurrencyCommand::List => {
            let response = grid.admin().list_currencies(v1::ListCurrenciesRequest {}).await;
            let currencies = response.map_err(|status| grid.explain(&status))?.into_inner().currencies;
            if format == Format::Json {
                return out::json(&currencies.into_iter().map(Currency::from).collect::<Vec<_>>());
            }
            let header = [("currency", Align::Left), ("decimals", Align::Right), ("", Align::Left)];
            let row = |currency: v1::Currency| {
                let note = if currency.default { "default" } else { "" };
                vec![human::plain(&currency.code), currency.decimals.to_string(), note.to_owned()]
            };
            out::line(&out::table(&header, currencies.into_iter().map(row).collect()))
        }
    }
}
