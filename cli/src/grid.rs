//! The way to a coordinator: address, token, connection, and calls that are safe to repeat.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lull_proto::v1::admin_client::AdminClient;
use lull_proto::v1::blobs_client::BlobsClient;
use lull_proto::v1::jobs_client::JobsClient;
use lull_proto::v1::ledger_client::LedgerClient;
use lull_proto::v1::payouts_client::PayoutsClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::{Error, Exit, Result, is_in_transit};

/// Time for a connection to be made: a coordinator that is there answers at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rhythm of the HTTP/2 pings that notice a coordinator which vanished without a word.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time for the answer to such a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// One message: a job's 10,000 files, or a thousand units of 4 KiB, fit many times.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Waits between repetitions of a call whose answer was lost.
const RETRY_DELAYS: [Duration; 5] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Environment variable with the token.
pub(crate) const TOKEN_ENV: &str = "LULL_TOKEN";
/// Environment variable with the path of a file that holds the token.
pub(crate) const TOKEN_FILE_ENV: &str = "LULL_TOKEN_FILE";

/// Where the token comes from: a flag before the environment, the token before its file.
#[derive(Debug)]
pub(crate) struct TokenSource {
    /// `--token`
    pub(crate) token: Option<String>,
    /// `--token-file`
    pub(crate) token_file: Option<PathBuf>,
}

impl TokenSource {
    fn read(&self, env: impl Fn(&str) -> Option<String>) -> Result<Option<String>> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        if let Some(path) = &self.token_file {
            return read_token_file(path).map(Some);
        }
        if let Some(token) = env(TOKEN_ENV) {
            return Ok(Some(token));
        }
        env(TOKEN_FILE_ENV).map(|path| read_token_file(Path::new(&path))).transpose()
    }
}

fn read_token_file(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::usage(format!("token file {}: {error}", path.display())))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Error::usage(format!("token file {} is empty: write the token into it", path.display())));
    }
    Ok(token.to_owned())
}

/// Takes a coordinator's address from a command line.
///
/// # Errors
/// When it is not a plain `http://` one.
pub(crate) fn address(text: &str) -> std::result::Result<String, String> {
    if text.starts_with("https://") {
        return Err("coordinators do not speak TLS yet: use http:// on the coordinator's own machine, \
             such as http://127.0.0.1:7878"
            .to_owned());
    }
    let authority = text.strip_prefix("http://").filter(|authority| !authority.is_empty());
    match authority.map(|_| Endpoint::from_shared(text.to_owned())) {
        Some(Ok(_)) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("write an address such as http://127.0.0.1:7878".to_owned()),
    }
}

/// Puts the token into every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: Option<&str>) -> Result<Self> {
        let Some(token) = token else { return Ok(Self(None)) };
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
            Error::usage("the token has characters that no token has: copy it again, on one line")
        })?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What calls go through.
pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// A connection to a coordinator. It mends itself when the coordinator restarts.
pub(crate) struct Grid {
    wire: Wire,
    url: String,
}

impl Grid {
    /// Connects, so that a coordinator which is not there is noticed before any work is done.
    ///
    /// # Errors
    /// When the token cannot be read or the coordinator cannot be reached.
    pub(crate) async fn connect(url: &str, token: &TokenSource) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let bearer = Bearer::new(token.read(env)?.as_deref())?;
        let explain =
            |error: tonic::transport::Error| Error::from_status(&Status::from_error(Box::new(error)), url);
        let channel = Endpoint::from_shared(url.to_owned())
            .map_err(explain)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(explain)?;
        Ok(Self { wire: InterceptedService::new(channel, bearer), url: url.to_owned() })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Jobs and their answers.
    pub(crate) fn jobs(&self) -> JobsClient<Wire> {
        JobsClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Bytes by digest.
    pub(crate) fn blobs(&self) -> BlobsClient<Wire> {
        BlobsClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Money.
    pub(crate) fn ledger(&self) -> LedgerClient<Wire> {
        LedgerClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Payouts.
    pub(crate) fn payouts(&self) -> PayoutsClient<Wire> {
        PayoutsClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Submitters, owners, tokens, devices.
    pub(crate) fn admin(&self) -> AdminClient<Wire> {
        AdminClient::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// What a status means to the person who called.
    pub(crate) fn explain(&self, status: &Status) -> Error {
        Error::from_status(status, &self.url)
    }
}

/// Makes a call that is safe to repeat until its answer arrives, or five repetitions were lost too.
///
/// # Errors
/// The coordinator's refusal, or the last loss; Ctrl-C between repetitions.
pub(crate) async fn until_answered<T, F>(grid: &Grid, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
{
    let mut delays = RETRY_DELAYS.into_iter();
    loop {
        let status = match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        match delays.next() {
            Some(delay) if is_in_transit(&status) => pause(delay).await?,
            _ => return Err(grid.explain(&status)),
        }
    }
}

/// Does something that Ctrl-C may break off.
///
/// # Errors
/// Its own, or that Ctrl-C was pressed.
pub(crate) async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        _pressed = tokio::signal::ctrl_c() => Err(Error::new(Exit::Interrupted, "interrupted")),
    }
}

/// Waits; Ctrl-C ends the wait and the command.
///
/// # Errors
/// When Ctrl-C was pressed.
pub(crate) async fn pause(delay: Duration) -> Result<()> {
    match tokio::time::timeout(delay, tokio::signal::ctrl_c()).await {
        Err(_elapsed) => Ok(()),
        Ok(_pressed) => Err(Error::new(Exit::Interrupted, "interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: std::result::Result<&str, &str>| match (address(text), expected) {
            (Ok(given), Ok(expected)) => assert_eq!(given, expected),
            (Err(given), Err(expected)) => assert!(given.contains(expected), "{given}"),
            (given, expected) => panic!("{text}: {given:?}, not {expected:?}"),
        };
        check("http://127.0.0.1:7878", Ok("http://127.0.0.1:7878"));
        check("http://localhost:1/", Ok("http://localhost:1"));
        check("https://grid.example", Err("do not speak TLS yet"));
        check("127.0.0.1:7878", Err("write an address such as http://127.0.0.1:7878"));
        check("http://", Err("write an address"));
        check("", Err("write an address"));
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-file\n").unwrap();
        let file_in_env = path.display().to_string();
        let check =
            |token: Option<&str>, file: Option<&Path>, env: &[(&str, &str)], expected: Option<&str>| {
                let source =
                    TokenSource { token: token.map(str::to_owned), token_file: file.map(Path::to_owned) };
                let env = |name: &str| {
                    env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
                };
                assert_eq!(source.read(env).unwrap().as_deref(), expected);
            };
        check(None, None, &[], None);
        check(Some("flag"), None, &[(TOKEN_ENV, "env")], Some("flag"));
        check(None, Some(&path), &[(TOKEN_ENV, "env")], Some("from-file"));
        check(None, None, &[(TOKEN_ENV, "env"), (TOKEN_FILE_ENV, "nowhere")], Some("env"));
        check(None, None, &[(TOKEN_FILE_ENV, &file_in_env)], Some("from-file"));
        let missing = TokenSource { token: None, token_file: Some(folder.path().join("none")) };
        assert_eq!(missing.read(|_| None).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_token_must_fit_a_header() {
        assert!(Bearer::new(Some("lull_abc")).is_ok());
        assert!(Bearer::new(Some("two\nlines")).is_err());
    }
}
