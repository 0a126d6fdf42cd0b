//! Who may do what. The table is the coordinator's own: it is read from the OpenAPI document that the coordinator
//! makes from its routes, so it says what that coordinator does, not what this program believes.

use crate::client::Client;
use crate::command;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who there is, from least to most; each may do what the one before it may.
const WHO: [&str; 5] = ["public", "viewer", "operator", "admin", "local root"];

/// What we read of the document.
#[derive(Deserialize)]
struct Document {
    paths: BTreeMap<String, BTreeMap<String, Operation>>,
}

#[derive(Deserialize)]
struct Operation {
    summary: String,
    #[serde(rename = "x-bulkhead-role")]
    role: String,
}

#[derive(Serialize)]
struct Acts {
    acts: Vec<Act>,
}

/// One thing that can be done.
#[derive(Serialize)]
struct Act {
    act: String,
    route: String,
    role: String,
}

/// `role …`.
pub(crate) async fn run(client: &mut Client, verb: command::Role, screen: Screen) -> Result<(), Failure> {
    match verb {
        command::Role::Table => {
            let document: Document = client.get("/api/v1/openapi.json").await?;
            screen.answer("roles", &acts(document), |acts| show(&acts.acts))
        }
    }
}

/// The least role first.
fn acts(document: Document) -> Acts {
    let each = |(path, operations): (String, BTreeMap<String, Operation>)| {
        operations.into_iter().map(move |(method, Operation { summary, role })| Act {
            act: summary,
            route: format!("{} {path}", method.to_uppercase()),
            role,
        })
    };
    let mut acts: Vec<_> = document.paths.into_iter().flat_map(each).collect();
    acts.sort_by_key(|act| rank(&act.role));
    Acts { acts }
}

/// A role of a newer coordinator comes last, and nobody has it.
fn rank(role: &str) -> usize {
    WHO.iter().position(|who| *who == role).unwrap_or(WHO.len())
}

fn show(acts: &[Act]) -> String {
    let mut table = Table::new(&["act", "viewer", "operator", "admin", "local root", "route"]);
    for act in acts {
        let may = |who: usize| if who >= rank(&act.role) { "yes".to_owned() } else { String::new() };
        table.row([act.act.clone(), may(1), may(2), may(3), may(4), act.route.clone()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_may_what_the_one_before_may_and_nobody_what_nobody_knows() {
        let document = serde_json::json!({ "paths": {
            "/b": { "post": { "summary": "Do", "x-bulkhead-role": "operator" } },
            "/a": {
                "get": { "summary": "Look", "x-bulkhead-role": "viewer" },
                "delete": { "summary": "End", "x-bulkhead-role": "emperor" },
            },
        }});
        let acts = acts(serde_json::from_value(document).unwrap()).acts;
        assert_eq!(
            show(&acts),
            "ACT   VIEWER  OPERATOR  ADMIN  LOCAL ROOT  ROUTE\n\
             Look  yes     yes       yes    yes         GET /a\n\
             Do    -       yes       yes    yes         POST /b\n\
             End   -       -         -      -           DELETE /a\n"
        );
    }
}
