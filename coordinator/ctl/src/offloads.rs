//! `node offloads`: which offloads nodes leave off, by whose word.

use crate::client::Client;
use crate::command::SwitchOffloads;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::Table;
use bulkhead_protocol::admin;
use bulkhead_protocol::admin::OffloadsOff;

/// Switches if asked to, and shows what is off.
pub(crate) async fn run(
    client: &mut Client,
    SwitchOffloads { off, on, node }: SwitchOffloads,
    screen: Screen,
) -> Result<(), Failure> {
    let switch = admin::SwitchOffloads { off: off.unwrap_or_default(), on: on.unwrap_or_default() };
    let all: OffloadsOff = if switch == admin::SwitchOffloads::default() {
        client.get("/api/v1/offloads").await?
    } else {
        let path = match node {
            Some(name) => format!("/api/v1/nodes/{name}/offloads"),
            None => "/api/v1/offloads".to_owned(),
        };
        client.put(&path, &switch).await?
    };
    screen.answer("offloads", &all, show)
}

fn show(all: &OffloadsOff) -> String {
    let OffloadsOff { configured, everywhere, nodes } = all;
    if *all == OffloadsOff::default() {
        return "no offload is switched off from here".to_owned();
    }
    let mut table = Table::new(&["off", "on", "by"]);
    for (off, by) in [(configured, "the coordinator's configuration"), (everywhere, "an administrator")] {
        if !off.is_empty() {
            table.row([off.to_string(), "every node".to_owned(), by.to_owned()]);
        }
    }
    for (name, off) in nodes {
        table.row([off.to_string(), name.clone(), "an administrator".to_owned()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_protocol::offload::{Offload, Offloads};
    use std::collections::BTreeMap;

    #[test]
    fn every_word_is_shown_with_whose_it_is() {
        assert_eq!(show(&OffloadsOff::default()), "no offload is switched off from here");
        let gso = Offloads::NONE.with(Offload::UdpGso);
        let all = OffloadsOff {
            configured: gso,
            everywhere: gso.with(Offload::UdpGro),
            nodes: BTreeMap::from([("web".to_owned(), gso)]),
        };
        let shown = show(&all);
        let lines: Vec<_> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["OFF", "ON", "BY"]);
        assert_eq!(lines[2], ["udp-gso,udp-gro", "every", "node", "an", "administrator"]);
        assert_eq!(lines[3][..2], ["udp-gso", "web"]);
    }
}
