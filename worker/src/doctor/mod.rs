//! `lull-worker doctor`: is everything here that the agent needs, and if not, what is to be done?
//!
//! - [`Finding`]: what one check found;
//! - `local`: what lies on this PC: settings, state directory, runner, walls, presence;
//! - `grid`: the coordinator, the clock against its own, proxies.
//!
//! It changes nothing. Where an agent runs, that is asked what it sees: a doctor in another terminal has another
//! display, or none.

mod grid;
mod local;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::args::RunArgs;
use crate::control::{Answer, AskError, Request, Status, ask, socket_path};

/// What to do where the doctor may not look.
const AS_THE_AGENT: &str = "run the doctor as the user that runs the agent";

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The agent works; something is worth knowing.
    Warning,
    /// The agent cannot work, or not as it should.
    Problem,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How serious it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: advice.into() }
    }

    fn problem(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Problem, found: found.into(), advice: advice.into() }
    }
}

/// Checks everything, in the order in which an agent needs it.
#[must_use]
pub fn examine(arguments: &RunArgs, config: Option<&Path>) -> Vec<Finding> {
    let state_dir = arguments.state_dir();
    let asked = state_dir.as_deref().map_or(Ok(None), agent_at);
    let agent = asked.as_ref().ok().and_then(Option::as_ref);
    let mut findings = vec![local::settings(config)];
    findings.extend(local::state_directory(state_dir.as_deref(), agent));
    findings.push(local::agent(&asked));
    findings.extend(local::presence(arguments, agent));
    findings.extend(local::walls(arguments, agent));
    findings.extend(grid::coordinator(arguments, state_dir.as_deref(), agent));
    findings.extend(grid::proxy(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())));
    findings
}

/// The status of the agent that runs there, if one does; or why that cannot be told.
fn agent_at(state_dir: &Path) -> Result<Option<Status>, String> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let socket = socket_path(state_dir, runtime_dir.as_deref()).map_err(|error| error.to_string())?;
    match ask(&socket, &Request::Status {}) {
        Ok(Answer::Status(status)) => Ok(Some(*status)),
        Ok(_) => Err("it answers something else than its status: is it of another version?".to_owned()),
        Err(AskError::NotRunning) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The findings as lines for people.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for Finding { check, level, found, advice } in findings {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        lines.push(format!("{level:<8} {check:<16} {found}"));
        if !advice.is_empty() {
            lines.push(format!("{:<25} -> {advice}", ""));
        }
    }
    let count = |wanted: Level| findings.iter().filter(|finding| finding.level == wanted).count();
    let summary = match (count(Level::Problem), count(Level::Warning)) {
        (0, 0) => "Everything is as it should be.".to_owned(),
        (0, 1) => "No problem, one warning.".to_owned(),
        (0, warnings) => format!("No problem, {warnings} warnings."),
        (1, _) => "One problem keeps the agent from working as it should.".to_owned(),
        (problems, _) => format!("{problems} problems keep the agent from working as it should."),
    };
    lines.push(String::new());
    lines.push(summary);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_says_what_to_do() {
        let ok = Finding::ok("clock", "0 s apart");
        let warning = Finding::warning("proxy", "HTTPS_PROXY is set", "see to it");
        let problem = Finding::problem("coordinator", "it does not answer", "start it");
        let check = |findings: &[&Finding], last: &str| {
            let findings: Vec<Finding> = findings.iter().map(|&finding| finding.clone()).collect();
            let text = text(&findings);
            assert!(text.ends_with(last), "{text}");
            for Finding { advice, .. } in findings.iter().filter(|finding| !finding.advice.is_empty()) {
                assert!(text.contains(&format!("-> {advice}")), "{text}");
            }
        };
        check(&[&ok], "as it should be.");
        check(&[&ok, &warning], "No problem, one warning.");
        check(&[&problem, &warning], "One problem keeps the agent from working as it should.");
        check(&[&problem, &problem], "2 problems keep the agent from working as it should.");
    }
}
