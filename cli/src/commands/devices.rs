//! `lull devices`: the PCs of a grid, or one's own.

use clap::Args;
use lull_proto::v1;
use serde::Serialize;

use crate::error::Result;
use crate::grid::{Grid, interruptible};
use crate::out::{self, Align, Format};
use crate::text::human;
use crate::view;

/// Devices in one page.
const PAGE_SIZE: i32 = 1_000;
/// Characters of a host name, or of an owner's, that a table has room for.
const NAME_CHARS: usize = 12;
/// And where another column says who was wrong.
const NAME_CHARS_BLAMED: usize = 8;

/// List devices: an operator sees all, an owner their own
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull devices

Presence is active (somebody uses the PC), idle, dedicated (nobody sits at it) or
unknown (counts as active). Where verdicts showed that a device was wrong about a
checkpoint, `blamed` says how often; the JSON lists the last ten. Fault: poisoned
(made a wrong one) or resumed (went on from a right one to a wrong result).
Below the table: referees, and devices that get less work than others, and why.

JSON: {\"devices\": [{name, display_name, owner, presence, enrol_time,
last_seen_time, open_leases, attempts, blames, recent_blames: [{job, stage, index,
fault, steps, state_digest, witnessed_digest, witnesses, create_time}, ..],
limited_reason, referee}, ..]}")]
pub(crate) struct DevicesArgs {}

#[derive(Debug, Serialize)]
struct Devices {
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    display_name: String,
    owner: String,
    presence: &'static str,
    enrol_time: Option<String>,
    last_seen_time: Option<String>,
    open_leases: u32,
    attempts: u64,
    blames: u64,
    recent_blames: Vec<Blame>,
    limited_reason: String,
    referee: bool,
}

#[derive(Debug, Serialize)]
struct Blame {
    job: String,
    stage: String,
    index: u64,
    fault: &'static str,
    steps: u64,
    state_digest: String,
    witnessed_digest: String,
    witnesses: u32,
    create_time: Option<String>,
}

impl From<v1::Blame> for Blame {
    fn from(blame: v1::Blame) -> Self {
        Self {
            stage: view::stage(blame.stage.as_ref()),
            fault: match blame.fault() {
                v1::Fault::Poisoned => "poisoned",
                v1::Fault::Resumed => "resumed",
                v1::Fault::Unspecified => "unspecified",
            },
            job: blame.job,
            index: blame.index,
            steps: blame.steps,
            state_digest: hex::encode(blame.state_digest),
            witnessed_digest: hex::encode(blame.witnessed_digest),
            witnesses: blame.witnesses,
            create_time: blame.create_time.map(|time| time.to_string()),
        }
    }
}

impl From<v1::Device> for Device {
    fn from(device: v1::Device) -> Self {
        Self {
            presence: view::presence(device.presence()),
            name: device.name,
            display_name: device.display_name,
            owner: device.owner,
            enrol_time: device.enrol_time.map(|time| time.to_string()),
            last_seen_time: device.last_seen_time.map(|time| time.to_string()),
            open_leases: device.open_leases,
            attempts: device.attempts,
            blames: device.blames,
            recent_blames: device.recent_blames.into_iter().map(Blame::from).collect(),
            limited_reason: device.limited_reason,
            referee: device.referee,
        }
    }
}

/// Lists.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, format: Format) -> Result<()> {
    let devices = interruptible(list(grid)).await?;
    match format {
        Format::Json => out::json(&Devices { devices: devices.into_iter().map(Device::from).collect() }),
        Format::Table if devices.is_empty() => {
            out::say("no devices yet: make a token with `lull admin create-enrolment-token --owner NAME`");
            Ok(())
        }
        Format::Table => {
            out::line(&table(&devices))?;
            devices.iter().filter_map(referee).try_for_each(|line| out::line(&line))?;
            devices.iter().filter_map(limited).try_for_each(|line| out::line(&line))
        }
    }
}

/// A line under the table for a device that settles disputes.
fn referee(device: &v1::Device) -> Option<String> {
    let name = device.name.strip_prefix("devices/").unwrap_or(&device.name);
    device.referee.then(|| format!("device {}: a referee, which settles disputes", human::plain(name)))
}

/// A line under the table for a device that gets less work than others.
fn limited(device: &v1::Device) -> Option<String> {
    let name = device.name.strip_prefix("devices/").unwrap_or(&device.name);
    let reason = human::plain(&device.limited_reason);
    (!reason.is_empty()).then(|| format!("device {}: {reason}", human::plain(name)))
}

async fn list(grid: &Grid) -> Result<Vec<v1::Device>> {
    let mut devices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDevicesRequest { page_size: PAGE_SIZE, page_token };
        let response = grid.admin().list_devices(request).await.map_err(|status| grid.explain(&status))?;
        let page = response.into_inner();
        devices.extend(page.devices);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(devices);
        }
    }
}

fn table(devices: &[v1::Device]) -> String {
    let blamed = devices.iter().any(|device| device.blames > 0);
    let name_chars = if blamed { NAME_CHARS_BLAMED } else { NAME_CHARS };
    let mut header = vec![
        ("device", Align::Left),
        ("name", Align::Left),
        ("owner", Align::Left),
        ("presence", Align::Left),
        ("seen (UTC)", Align::Left),
        ("leases", Align::Right),
        ("attempts", Align::Right),
    ];
    if blamed {
        header.push(("blamed", Align::Right));
    }
    let rows = devices.iter().map(|device| {
        let owner = device.owner.strip_prefix("owners/").unwrap_or(&device.owner);
        let mut row = vec![
            device.name.strip_prefix("devices/").map_or_else(|| human::plain(&device.name), human::plain),
            human::short(&device.display_name, name_chars),
            human::short(owner, name_chars),
            view::presence(device.presence()).to_owned(),
            human::time(device.last_seen_time.as_ref()).chars().skip(5).take(11).collect(),
            device.open_leases.to_string(),
            human::count(device.attempts),
        ];
        if blamed {
            row.push(human::count(device.blames));
        }
        row
    });
    out::table(&header, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_fits_80_columns_and_presence_is_a_word() {
        let device = v1::Device {
            name: "devices/10234".to_owned(),
            display_name: "reception-desk-pc-4".to_owned(),
            owner: "owners/some-long-practice".to_owned(),
            last_seen_time: Some(prost_types::Timestamp { seconds: 1_784_801_472, nanos: 0 }),
            presence: v1::Presence::Dedicated.into(),
            open_leases: 12,
            attempts: 1_234_567,
            ..Default::default()
        };
        let text = table(std::slice::from_ref(&device));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("dedicated  07-23 10:11"), "{text}");
        let blamed = v1::Device { blames: 3, ..device.clone() };
        let text = table(&[device.clone(), blamed]);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().any(|line| line.trim_end().ends_with("1,234,567       3")), "{text}");
        assert_eq!((limited(&device), referee(&device)), (None, None));
        let trusted = v1::Device { referee: true, ..device.clone() };
        assert_eq!(referee(&trusted).unwrap(), "device 10234: a referee, which settles disputes");
        let slow = v1::Device { limited_reason: "hands back too much".to_owned(), ..device.clone() };
        assert_eq!(limited(&slow).unwrap(), "device 10234: hands back too much");
        let json = serde_json::to_value(Device::from(device)).unwrap();
        assert_eq!((&json["presence"], &json["open_leases"]), (&"dedicated".into(), &12.into()));
    }
}
