//! The OpenAPI document, made from the table of routes and from the very types that bodies are read and written by:
//! it cannot promise what the code does not do, nor forget a route. It holds no secret and is for everybody.

use super::problem::statuses;
use super::route::{Answer, QueryNumber, Route};
use super::{Access, routes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bulkhead_protocol::enrol::ApiError;
use bulkhead_protocol::schema::NODE_NAME;
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const DESCRIPTION: &str = "Administration and enrolment of a Bulkhead deployment. Times are Unix seconds. Over the \
    coordinator's root-only unix socket the same routes need no key.";

pub(super) async fn document() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| describe(&routes()).to_string().into());
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], DOCUMENT.clone()).into_response()
}

/// The document of these routes.
#[must_use]
pub(super) fn describe(routes: &[Route]) -> Value {
    let mut types = Types::new();
    let mut paths = Map::new();
    for route in routes {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut types);
    }
    let error = types.answers.subschema_for::<ApiError>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead coordinator",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": types.into_schemas(),
            "responses": {
                "Error": {
                    "description": "Why not, and what to do next.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`bulkhead-key1.…`), or the key of a session.",
                },
            },
        },
    })
}

/// The same type may look different where it is read: what has a default may be left out.
struct Types {
    bodies: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Types {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            bodies: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    fn into_schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.bodies.take_definitions(true);
        schemas.extend(self.answers.take_definitions(true));
        for schema in schemas.values_mut() {
            if let Ok(schema) = <&mut Schema>::try_from(schema) {
                polish(schema);
            }
        }
        schemas
    }
}

/// What `format` means is said to programs that do not know it, and what links in our documentation is plain text.
fn polish(schema: &mut Schema) {
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint64" | "uint") => Some(u64::MAX),
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some(_) | None => None,
    };
    if let Some(most) = most
        && schema.get("maximum").is_none()
    {
        schema.insert("maximum".to_owned(), most.into());
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`");
    }
    transform_subschemas(&mut polish, schema);
}

fn operation(route: &Route, types: &mut Types) -> Value {
    let parameters = route.placeholders().map(path_parameter).chain(route.query.iter().map(query_parameter));
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": format!("Needs: {}.", needs(route.access)),
        "x-bulkhead-role": route.access.as_str(),
        "security": match route.access {
            Access::Public => json!([]),
            Access::Viewer | Access::Operator | Access::Admin | Access::LocalRoot => json!([{ "key": [] }]),
        },
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": responses(route, types),
    });
    if let Some(body) = route.body {
        let schema = body(&mut types.bodies);
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words = words.filter(|word| !matches!(*word, "api" | "v1"));
    std::iter::once(route.method.as_str().to_ascii_lowercase().as_str())
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

fn needs(access: Access) -> &'static str {
    match access {
        Access::Public => "nothing",
        Access::Viewer => "any key",
        Access::Operator => "the key of an operator or an admin",
        Access::Admin => "the key of an admin",
        Access::LocalRoot => "the unix socket, as root on the coordinator's host",
    }
}

fn path_parameter(name: &'static str) -> Value {
    let schema = match name {
        "name" => json!({ "type": "string", "pattern": NODE_NAME }),
        "id" => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" }),
        "hash" => json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
        // Epochs and generations.
        _ => json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn query_parameter(number: &QueryNumber) -> Value {
    let schema = json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX });
    json!({ "name": number.name, "in": "query", "required": false, "description": number.what, "schema": schema })
}

fn responses(route: &Route, types: &mut Types) -> Value {
    let content = match route.answer {
        Answer::Done => json!({ "application/json": { "schema": { "type": "object", "maxProperties": 0 } } }),
        Answer::Object => json!({ "application/json": { "schema": { "type": "object" } } }),
        Answer::Cbor => json!({ "application/cbor": {} }),
        Answer::Json(describe) => json!({ "application/json": { "schema": describe(&mut types.answers) } }),
    };
    let mut responses = json!({ "200": { "description": "Done.", "content": content } });
    for status in statuses(route) {
        responses[status.to_string()] = json!({ "$ref": "#/components/responses/Error" });
    }
    responses
}
