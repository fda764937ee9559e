//! The coordinator as a server: where it listens, what it says of itself, lists page by page.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use lull_proto::v1::{self, jobs_client::JobsClient};
use lull_tests::{Fleet, Grid, JobFile, binary, guest};
use rustix::process::{Pid, Signal, kill_process_group};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

async fn connect(grid: &Grid) -> Result<Channel> {
    Ok(Endpoint::from_shared(grid.url.clone())?.connect().await?)
}

#[test]
fn it_listens_on_loopback_only() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for address in ["0.0.0.0:0", "[::]:0"] {
        let mut command = Command::new(binary("lull-coordinator"));
        command.args(["serve", "--listen", address, "--state-dir"]).arg(dir.path().join("state"));
        let output = command.output()?;
        assert!(!output.status.success(), "{address}");
        let complaint = String::from_utf8(output.stderr)?;
        assert!(
            complaint.contains("refusing to listen on") && complaint.contains("without TLS"),
            "{complaint}"
        );
        assert!(!dir.path().join("state").exists(), "nothing was made before the refusal");
    }
    Ok(())
}

/// How a second coordinator beside a running one is refused.
fn refused_beside(grid: &Grid, state_dir: &Path, listen: &str) -> Result<String> {
    let mut command = Command::new(binary("lull-coordinator"));
    // Backtraces are for whoever mends it: no user reads one.
    command.env("RUST_BACKTRACE", "1").args(["serve", "--listen", listen, "--state-dir"]).arg(state_dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut served = String::new();
    BufReader::new(child.stdout.take().context("a piped stdout")?).read_line(&mut served)?;
    if !served.is_empty() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    assert_eq!((output.status.code(), served.as_str()), (Some(1), ""), "beside {}", grid.url);
    let complaint = String::from_utf8(output.stderr)?;
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    Ok(complaint)
}

#[test]
fn a_state_directory_has_one_coordinator() -> Result<()> {
    let grid = Grid::start(60)?;
    let state_dir = grid.dir().join("state");
    let address = std::fs::read_to_string(state_dir.join("address"))?;
    let complaint = refused_beside(&grid, &state_dir, "127.0.0.1:0")?;
    assert!(complaint.starts_with("lull-coordinator: another coordinator (process "), "{complaint}");
    assert!(complaint.contains("name another --state-dir"), "{complaint}");
    assert_eq!(std::fs::read_to_string(state_dir.join("address"))?, address, "it is still the first one's");
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_refused_before_anything_is_made() -> Result<()> {
    let grid = Grid::start(60)?;
    let dir = tempfile::tempdir()?;
    let taken = grid.url.strip_prefix("http://").context("a URL")?;
    let complaint = refused_beside(&grid, &dir.path().join("state"), taken)?;
    assert!(complaint.contains(&format!("cannot listen on {taken}")), "{complaint}");
    assert!(complaint.contains("or name another --listen"), "{complaint}");
    assert!(!dir.path().join("state").exists(), "nothing was made before the refusal");
    Ok(())
}

/// A terminal sends Ctrl-C to the whole group of processes.
#[test]
fn ctrl_c_stops_it_without_a_complaint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(binary("lull-coordinator"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]).arg(dir.path().join("state"));
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut url = String::new();
    BufReader::new(child.stdout.take().context("a piped stdout")?).read_line(&mut url)?;
    kill_process_group(Pid::from_child(&child), Signal::INT)?;
    let output = child.wait_with_output()?;
    let log = String::from_utf8(output.stderr)?;
    assert!(output.status.success() && url.starts_with("http://"), "{log}");
    assert!(log.contains("serving") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served() -> Result<()> {
    let grid = Grid::start(60)?;
    let channel = connect(&grid).await?;

    let mut health = HealthClient::new(channel.clone());
    for service in ["", "lull.v1.Work", "lull.v1.Jobs"] {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await?;
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
    }

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response).context("an answer")?;
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|ServiceResponse { name }| name).collect();
    for service in ["Admin", "Blobs", "Jobs", "Ledger", "Work"] {
        assert!(names.contains(&format!("lull.v1.{service}")), "{service} is not in {names:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_page_by_page() -> Result<()> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut clinic = fleet.submitter("clinic", "1").await?;
    let module = clinic.upload("module", &std::fs::read(guest("hello"))?).await?;
    for _ in 0..3 {
        clinic.trivial_job(&module, 1).await?;
    }
    let channel = connect(&grid).await?;
    let list = async |page_size: i32, page_token: &str| {
        let mut request =
            tonic::Request::new(v1::ListJobsRequest { page_size, page_token: page_token.to_owned() });
        let token = format!("Bearer {}", grid.operator).parse().expect("a header");
        request.metadata_mut().insert("authorization", token);
        JobsClient::new(channel.clone()).list_jobs(request).await.map(tonic::Response::into_inner)
    };
    let names =
        |page: &v1::ListJobsResponse| page.jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>();

    let first = list(2, "").await?;
    assert_eq!(names(&first), ["jobs/3", "jobs/2"]);
    let second = list(2, &first.next_page_token).await?;
    assert_eq!((names(&second), second.next_page_token.as_str()), (vec!["jobs/1".to_owned()], ""));
    for (page_size, page_token, says) in [(-1, "", "page_size: is negative"), (0, "x", "page_token")] {
        let status = list(page_size, page_token).await.expect_err(says);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(says), "{status}");
    }
    Ok(())
}

#[test]
fn an_agent_that_cannot_tell_whether_somebody_is_there_runs_nothing() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "1")?;
    let file = JobFile::probe_lines(grid.dir(), "one", &["echo a"])?.write(grid.dir(), "one")?;
    let job = grid.submit(&token, &file, &[])?;

    let _agent = grid.watching_agent("ada", "desk")?;

    let state = grid.wait_job(&job, "seen by the agent", |_| {
        grid.lull(&["devices"]).is_ok_and(|devices| devices.contains("desk") && devices.contains("unknown"))
    })?;
    assert_eq!(state["progress"]["attempts"], 0, "{state}");
    assert!(state["reason"].as_str().is_some_and(|reason| reason.contains("no device has taken")), "{state}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_role_cannot_rewrite_the_books() -> Result<()> {
    let grid = Grid::start(60)?;
    grid.submitter("lab", "10")?;
    let (client, connection) = tokio_postgres::connect(&grid.database_url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("SET ROLE lull_app").await?;
    for statement in [
        "UPDATE transfer SET amount = 1",
        "DELETE FROM transfer",
        "DELETE FROM account",
        "DELETE FROM verdict",
        "DELETE FROM device_earning",
    ] {
        let error = client.batch_execute(statement).await.expect_err(statement);
        let code = error.code().context("a refusal of the database")?;
        assert_eq!(code, &tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE, "{statement}");
    }
    Ok(())
}
