//! Live flows, as the nodes tell them when they are asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/flows`: every connected node is asked, and has two seconds to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveFlows {
    /// Each once, whichever end told of it, in order.
    pub flows: Vec<LiveFlow>,
    /// Connected nodes that did not answer in time.
    pub silent: Vec<String>,
    /// Nodes that are not connected: nobody could ask them, and their connections may well be open.
    #[serde(default)]
    pub unasked: Vec<String>,
    /// Whether there are more than fit.
    pub truncated: bool,
}

/// Some flows are open between these two, for this service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct LiveFlow {
    /// The node that opened them.
    pub from: String,
    /// The other one.
    pub to: String,
    /// For example `tcp/5432`.
    pub service: String,
}
