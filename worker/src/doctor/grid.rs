//! The coordinator, and what lies between it and this PC.

use std::path::Path;

use tonic::Code;

use super::{AS_THE_AGENT, Finding};
use crate::args::RunArgs;
use crate::control::Status;
use crate::identity::{self, Identity};
use crate::remote::{self, Remote, explain, unix_secs};

/// Clocks may be this much apart before calls are refused: a fresh assertion is good for so much less than the
/// five minutes that the coordinator allows, and it allows devices to be a minute ahead.
const CLOCK_SECS_MAX: u64 = 60;

/// Variables that make other programs use a proxy.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Whether it answers, knows this device, and has the same time.
pub(super) fn coordinator(
    arguments: &RunArgs,
    state_dir: Option<&Path>,
    agent: Option<&Status>,
) -> Vec<Finding> {
    const CHECK: &str = "coordinator";
    // A running agent is asked instead: it has the identity in use.
    let identity = state_dir.filter(|_| agent.is_none()).map(Identity::read_in);
    let identity = match identity.transpose() {
        Ok(identity) => identity.flatten(),
        Err(error @ identity::Error::File { .. }) => {
            return vec![Finding::problem("identity", error.to_string(), AS_THE_AGENT)];
        }
        Err(error) => return vec![Finding::problem("identity", error.to_string(), "enrol this PC again")],
    };
    let remembered = || identity.as_ref().map(|identity| identity.enrolment.coordinator.clone());
    let asked = agent.map(|agent| agent.coordinator.clone());
    let Some(url) = asked.or_else(|| arguments.coordinator.clone()).or_else(remembered) else {
        let advice =
            "run `lull-worker run --coordinator URL` once with the address that the operator gave you";
        return vec![Finding::problem(CHECK, "no address is known", advice)];
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return vec![Finding::problem(CHECK, "the system refuses a runtime", "close some programs")];
    };
    runtime.block_on(async {
        let channel = match remote::channel(&url) {
            Ok(channel) => channel,
            Err(error) => {
                let found = format!("`{url}` is no address of a coordinator");
                return vec![Finding::problem(CHECK, found, error.to_string())];
            }
        };
        let greeting = match remote::greet(channel.clone()).await {
            Ok(greeting) => greeting,
            Err(status) => {
                let found = format!("{url} cannot be reached: {}", explain(&status));
                let advice = "is it running, is the address right, and is the way to it free of firewalls?";
                return vec![Finding::problem(CHECK, found, advice)];
            }
        };
        let mut findings = vec![Finding::ok(CHECK, format!("{url} answers"))];
        findings.extend(greeting.unix_secs.map(|theirs| clock(theirs, unix_secs())));
        findings.push(match (identity, agent) {
            (Some(identity), _) => known(&Remote::new(channel, identity)).await,
            (None, Some(Status { coordinator_problem: Some(problem), .. })) => Finding::problem(
                "identity",
                format!("the agent's last call failed: {problem}"),
                "see `lull-worker logs`",
            ),
            (None, Some(_)) => Finding::ok("identity", "the running agent is served"),
            (None, None) => {
                let advice = "get a token from the operator and pass it to the first `lull-worker run`";
                Finding::warning("identity", "this PC has not enrolled", advice)
            }
        });
        findings
    })
}

async fn known(remote: &Remote) -> Finding {
    const CHECK: &str = "identity";
    match remote.earnings().await {
        Ok(_) => Finding::ok(CHECK, "the coordinator knows this PC"),
        Err(status) if status.code() == Code::FailedPrecondition => {
            Finding::problem(CHECK, explain(&status), "set the clock of this PC: timedatectl set-ntp true")
        }
        Err(status) => Finding::problem(
            CHECK,
            explain(&status),
            "move the state directory away and enrol with a new token",
        ),
    }
}

/// Their clock against this PC's, both in Unix seconds.
fn clock(theirs: u64, ours: u64) -> Finding {
    const CHECK: &str = "clock";
    let apart = theirs.abs_diff(ours);
    let found = format!("{apart} s from the coordinator's");
    if apart >= CLOCK_SECS_MAX {
        Finding::problem(CHECK, found, "set the clock of this PC: timedatectl set-ntp true")
    } else {
        Finding::ok(CHECK, found)
    }
}

/// Proxies that others use and the agent does not. `is_set` tells of variables of the environment.
pub(super) fn proxy(is_set: impl Fn(&str) -> bool) -> Option<Finding> {
    let set: Vec<&str> = PROXY_VARIABLES.into_iter().filter(|name| is_set(name)).collect();
    (!set.is_empty()).then(|| {
        let found = format!("{} is set; the agent calls the coordinator directly", set.join(", "));
        Finding::warning("proxy", found, "make sure that the coordinator can be reached without a proxy")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_may_differ_by_less_than_a_minute() {
        for (theirs, level) in
            [(1000, Level::Ok), (1059, Level::Ok), (1060, Level::Problem), (940, Level::Problem)]
        {
            assert_eq!(clock(theirs, 1000).level, level, "{theirs}");
        }
    }

    #[test]
    fn proxies_are_named() {
        assert_eq!(proxy(|_| false), None);
        let finding = proxy(|name| name == "https_proxy").expect("one is set");
        assert!(finding.found.starts_with("https_proxy is set"), "{finding:?}");
    }
}
