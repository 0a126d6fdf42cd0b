//! Ports of a NetworkPolicy. A named port is a number that each pod defines for itself, so it becomes a condition on
//! the pod that answers: a label that says which number the name stands for there.

use super::objects::{NumberOrName, Port};
use bulkhead_acl::PortSet;

/// What a rule permits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// By number.
    pub(super) numbers: PortSet,
    /// By protocol (`tcp`, …) and name.
    pub(super) names: Vec<(String, String)>,
}

impl Ports {
    /// Reads the ports of one rule; none at all are all ports of all protocols.
    ///
    /// # Errors
    /// Every port that cannot be translated, one sentence each.
    pub(super) fn read(ports: &[Port]) -> Result<Self, Vec<String>> {
        let mut read = Self { numbers: PortSet::default(), names: Vec::new() };
        if ports.is_empty() {
            read.numbers = PortSet::any();
            return Ok(read);
        }
        let mut wrong = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            if let Err(reason) = read.add(port) {
                wrong.push(format!("port {}: {reason}", number + 1));
            }
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong) }
    }

    fn add(&mut self, port: &Port) -> Result<(), String> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => "tcp",
            Some("UDP") => "udp",
            Some("SCTP") => "sctp",
            Some(other) => return Err(format!("protocol {other:?} is not TCP, UDP or SCTP")),
        };
        let text = match (&port.port, port.end_port) {
            (None, None) => format!("{protocol}/*"),
            (Some(NumberOrName::Number(number)), None) => format!("{protocol}/{}", is_port(*number)?),
            (Some(NumberOrName::Number(first)), Some(last)) => {
                format!("{protocol}/{}-{}", is_port(*first)?, is_port(last)?)
            }
            (Some(NumberOrName::Name(name)), None) => {
                self.names.push((protocol.to_owned(), name.clone()));
                return Ok(());
            }
            (None | Some(NumberOrName::Name(_)), Some(_)) => {
                return Err("endPort needs a port number".to_owned());
            }
        };
        self.numbers = self.numbers.union(&PortSet::parse(&text)?);
        Ok(())
    }
}

fn is_port(number: i64) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("{number} is not a port, 1 to 65535"))
}

/// One port, in our syntax.
pub(super) fn one(protocol: &str, number: u16) -> Result<PortSet, String> {
    PortSet::parse(&format!("{protocol}/{number}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ports(json: &str) -> Result<Ports, Vec<String>> {
        Ports::read(&serde_json::from_str::<Vec<Port>>(json).unwrap())
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        assert_eq!(ports("[]").unwrap().numbers, PortSet::any());
        for (json, ours) in [
            (r#"[{"port": 80}]"#, "tcp/80"),
            ("[{}]", "tcp/*"),
            (r#"[{"protocol": "UDP"}]"#, "udp/*"),
            (r#"[{"protocol": "SCTP", "port": 7, "endPort": 9}, {"port": 1}]"#, "tcp/1, sctp/7-9"),
        ] {
            assert_eq!(ports(json).unwrap().numbers.to_string(), ours);
        }
        assert_eq!(ports(r#"[{"port": "http"}]"#).unwrap().names, [("tcp".into(), "http".into())]);
    }

    #[test]
    fn every_wrong_port_is_told() {
        let wrong = r#"[{"port": 0}, {"port": 80}, {"protocol": "ICMP"}, {"endPort": 9}, {"port": 9, "endPort": 7},
                        {"port": "http", "endPort": 90}, {"port": 65536}]"#;
        assert_eq!(ports(wrong).unwrap_err().len(), 6);
    }
}
