//! The OpenAPI document says what the table says, and holds together.

use super::*;
use crate::api::openapi::describe;
use serde_json::Value;
use std::collections::BTreeSet;

async fn fetched() -> Value {
    let request = Request::builder().uri("/api/v1/openapi.json");
    let (status, body) = deployment().send(STRANGER, request, Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn every_route_is_in_the_document_with_its_role_and_its_parameters() {
    let document = fetched().await;
    let mut ids = BTreeSet::new();
    for route in routes() {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(operation["x-bulkhead-role"], route.access.as_str(), "{}", route.path);
        assert_eq!(operation["security"] == serde_json::json!([]), route.access == Access::Public);
        assert_eq!(operation["requestBody"].is_object(), route.body.is_some());
        let named = operation["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
        let expected = route.placeholders().chain(route.query.iter().map(|number| number.name));
        assert_eq!(named.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.path);
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_schema_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.insert(reference.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = fetched().await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(found.contains(&format!("#/components/schemas/{name}")), "{name}");
    }
}

#[test]
fn what_is_read_refuses_unknown_fields_and_says_so() {
    let document = describe(&routes());
    for route in routes().into_iter().filter(|route| route.body.is_some()) {
        let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let schema = document.pointer(schema["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{}", route.path);
    }
}

#[test]
fn the_written_table_of_roles_is_this_one() {
    let mut routes = routes();
    routes.sort_by_key(|route| route.access);
    let line = |route: &Route| {
        format!("| {} | {} | `{} {}` |\n", route.summary, route.access.as_str(), route.method, route.path)
    };
    let table: String = routes.iter().map(line).collect();
    let written = include_str!("../../../../ARCHITECTURE.md");
    assert!(written.contains(&table), "write this into ARCHITECTURE.md, under Roles:\n\n{table}");
}
