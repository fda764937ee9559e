//! The desktop of the agent's own user.

use std::time::Duration;

use notify_rust::Notification;

use super::Words;
use crate::presence::Places;

/// A notification daemon that takes longer is as good as none. Who asks for the earnings meanwhile waits for it.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// Why nothing was shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no session of this user, as for a system agent.
    #[error("the agent has no session bus (DBUS_SESSION_BUS_ADDRESS, or `bus` in XDG_RUNTIME_DIR)")]
    NoSession,
    /// The bus or the daemon refuses.
    #[error("{0}")]
    Refused(#[from] notify_rust::error::Error),
    /// Nobody answers.
    #[error("no answer in time")]
    Late,
}

/// Shows it, once. Only on the session bus that the agent was started with: another user's is none of its business.
pub(super) async fn show(words: &Words) -> Result<(), Error> {
    if cfg!(target_os = "linux") && Places::default().session_bus.is_none() {
        return Err(Error::NoSession);
    }
    let mut notification = Notification::new();
    notification.appname("Lull").summary(&words.summary).body(&words.body).icon("face-smile");
    tokio::time::timeout(ANSWER_TIME, send(notification)).await.map_err(|_| Error::Late)?
}

#[cfg(target_os = "linux")]
async fn send(notification: Notification) -> Result<(), Error> {
    notification.show_async().await?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
async fn send(notification: Notification) -> Result<(), Error> {
    match tokio::task::spawn_blocking(move || notification.show().map(drop)).await {
        Ok(shown) => Ok(shown?),
        Err(_) => Err(Error::Late),
    }
}
