//! What the D-Bus sources share: one connection on a runtime of the source's own thread, and answers in time.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;
use zbus::{Connection, MatchRule, Message, MessageStream};

/// A service that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A bus, connected to when it is needed.
pub(super) struct Bus {
    // Before the runtime: a connection ends on it.
    open: Option<(Connection, MessageStream)>,
    runtime: Option<Runtime>,
    address: String,
}

impl Bus {
    pub(super) const fn new(address: String) -> Self {
        Self { open: None, runtime: None, address }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Connects, and listens to what the rule says.
    pub(super) fn open(&mut self, rule: MatchRule<'static>) -> Result<(), Failure> {
        let runtime = match &mut self.runtime {
            Some(runtime) => runtime,
            none @ None => none.insert(tokio::runtime::Builder::new_current_thread().enable_all().build()?),
        };
        let address = self.address.as_str();
        self.open = Some(runtime.block_on(in_time(async {
            let connection =
                zbus::connection::Builder::address(address).method_timeout(ANSWER_TIMEOUT).build().await?;
            let signals = MessageStream::for_match_rule(rule, &connection, None).await?;
            Ok((connection, signals))
        }))?);
        Ok(())
    }

    /// Calls a method; the answer, and who gave it.
    pub(super) fn call<B, R>(
        &self,
        [destination, path, interface, method]: [&str; 4],
        body: &B,
    ) -> Result<(R, String), Failure>
    where
        B: Serialize + zbus::zvariant::DynamicType + Sync,
        R: DeserializeOwned + zbus::zvariant::Type,
    {
        let (Some((connection, _)), Some(runtime)) = (&self.open, &self.runtime) else {
            return Err("not connected".into());
        };
        let answer = runtime.block_on(in_time(async {
            Ok(connection.call_method(Some(destination), path, Some(interface), method, body).await?)
        }))?;
        let who = answer.header().sender().map(ToString::to_string).unwrap_or_default();
        Ok((answer.body().deserialize()?, who))
    }

    /// The next signal, or nothing until then.
    pub(super) fn signal(&mut self, until: Option<Instant>) -> Result<Option<Message>, Failure> {
        let (Some((_, signals)), Some(runtime)) = (&mut self.open, &self.runtime) else {
            return Err("not connected".into());
        };
        let until = until.unwrap_or_else(Instant::now);
        match runtime.block_on(async { tokio::time::timeout_at(until.into(), signals.next()).await }) {
            Err(_) => Ok(None),
            Ok(Some(message)) => Ok(Some(message?)),
            Ok(None) => Err("the bus has closed".into()),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    tokio::time::timeout(ANSWER_TIMEOUT, work).await.map_err(|_| late())?
}

/// Whether there is no such bus, or nobody of that name on it: not that it is there and cannot be read.
pub(super) fn is_absent(error: &Failure) -> bool {
    let is_none = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    };
    match error.downcast_ref() {
        Some(zbus::Error::Connection(error, ..) | zbus::Error::InputOutput(error)) => is_none(error),
        Some(zbus::Error::FDO(error)) => {
            matches!(**error, zbus::fdo::Error::ServiceUnknown(_) | zbus::fdo::Error::NameHasNoOwner(_))
        }
        _ => false,
    }
}

/// Whether what was asked about is no more.
pub(super) fn is_unknown_object(error: &Failure) -> bool {
    matches!(error.downcast_ref(), Some(zbus::Error::FDO(error)) if matches!(**error, zbus::fdo::Error::UnknownObject(_)))
}

/// Whether the service has no such object, interface or method.
pub(super) fn is_unsupported(error: &Failure) -> bool {
    use zbus::fdo::Error::{UnknownInterface, UnknownMethod, UnknownObject};

    match error.downcast_ref() {
        Some(zbus::Error::FDO(error)) => {
            matches!(**error, UnknownObject(_) | UnknownInterface(_) | UnknownMethod(_))
        }
        // As most services say it, the library passes it on.
        Some(zbus::Error::MethodError(name, ..)) => matches!(
            name.as_str(),
            "org.freedesktop.DBus.Error.UnknownObject"
                | "org.freedesktop.DBus.Error.UnknownInterface"
                | "org.freedesktop.DBus.Error.UnknownMethod"
        ),
        _ => false,
    }
}
