//! Files to objects. Every document is looked at and every problem is told, with the file and the object it is about;
//! an object that could decide about connections and is not understood is never passed over.

use super::objects::{
    Container, CronJob, Metadata, Named, NetworkPolicy, PodSpec, PodTemplate, PolicySpec, Workload,
};
use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// All files together: every object of a large cluster comes to less.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;
/// Scalars, lists and maps in one file; four for each parsed event bounds time and memory as well.
const MAX_MANIFEST_NODES: usize = 4_000_000;
/// Documents in one file.
const MAX_MANIFEST_DOCUMENTS: usize = 65_536;
/// Problems that are told at once.
const MAX_PROBLEMS: usize = 1_000;
/// What an object without a namespace is in, as kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";
/// The label that Kubernetes gives every namespace: its name.
pub(super) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Something that cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Problem {
    /// The file.
    pub(super) file: String,
    /// The object in it, for example `NetworkPolicy shop/web`.
    pub(super) object: String,
    /// Why not.
    pub(super) reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = if self.object.is_empty() { String::new() } else { format!("{}: ", self.object) };
        write!(f, "{}: {object}{}", self.file, self.reason)
    }
}

/// All problems so far.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// Notes one, as long as a reader can be expected to read on.
    pub(super) fn add(&mut self, origin: &Origin, reason: impl Into<String>) {
        if self.0.len() < MAX_PROBLEMS {
            let (file, object) = (origin.file.clone(), origin.object.clone());
            self.0.push(Problem { file, object, reason: reason.into() });
        }
    }
}

/// Where something was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) file: String,
    pub(super) object: String,
}

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// Labels of the namespaces that the files define.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Pods and templates of pods, by namespace, name and kind.
    pub(super) pods: BTreeMap<(String, String, String), Pod>,
    /// By namespace and name.
    pub(super) policies: BTreeMap<(String, String), Policy>,
    /// How many objects of which kind decide nothing here.
    pub(super) passed_over: BTreeMap<String, usize>,
}

/// A pod, or every pod of one workload.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) origin: Origin,
    pub(super) labels: BTreeMap<String, String>,
    /// Numbers of its named ports, by protocol (`tcp`, …) and name.
    pub(super) ports: BTreeMap<(String, String), u16>,
}

/// A NetworkPolicy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) origin: Origin,
    pub(super) spec: PolicySpec,
}

/// Reads all files.
///
/// # Errors
/// When a file cannot be read at all. What is wrong inside goes to `problems`.
pub(super) fn read(files: &[PathBuf], problems: &mut Problems) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    let mut room = MAX_MANIFEST_BYTES;
    for path in files {
        let text = text(path, room).with_context(|| format!("reading {}", path.display()))?;
        room -= text.len() as u64;
        cluster.take_file(&path.display().to_string(), &text, problems);
    }
    Ok(cluster)
}

fn text(path: &Path, room: u64) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(room + 1).read_to_string(&mut text)?;
    if text.len() as u64 > room {
        bail!("the manifests together exceed {MAX_MANIFEST_BYTES} bytes (MAX_MANIFEST_BYTES)");
    }
    Ok(text)
}

impl Cluster {
    /// Takes in the documents of one file.
    pub(super) fn take_file(&mut self, file: &str, text: &str, problems: &mut Problems) {
        // As Kubernetes reads YAML: octal numbers, `yes` is a boolean; a repeated key is an error.
        let options = serde_saphyr::options! {
            legacy_octal_numbers: true,
            budget: serde_saphyr::budget! {
                max_nodes: MAX_MANIFEST_NODES,
                max_events: 2 * MAX_MANIFEST_NODES,
                max_documents: MAX_MANIFEST_DOCUMENTS,
            },
        };
        let mut bytes = text.as_bytes();
        let documents = serde_saphyr::read_with_options::<_, Value>(&mut bytes, options);
        for (number, document) in documents.enumerate() {
            let origin = Origin { file: file.to_owned(), object: format!("document {}", number + 1) };
            match document {
                Ok(document) => self.take(&origin, "", document, problems),
                Err(error) => problems.add(&origin, format!("not YAML: {}", first_line(&error.to_string()))),
            }
        }
    }

    // `kind` is for members of a typed list, which do not repeat theirs.
    fn take(&mut self, origin: &Origin, kind: &str, document: Value, problems: &mut Problems) {
        let said = |field: &str| document.get(field).and_then(Value::as_str).map(str::to_owned);
        let kind = said("kind").unwrap_or_else(|| kind.to_owned());
        let version = said("apiVersion").unwrap_or_default();
        if kind.is_empty() {
            return problems.add(origin, "has no kind");
        }
        if let (Some(member), Some(Value::Array(_))) = (kind.strip_suffix("List"), document.get("items")) {
            return self.take_list(origin, member, &version, document, problems);
        }
        let origin = Origin { object: title(&kind, &document, &origin.object), ..origin.clone() };
        let expected = match kind.as_str() {
            "NetworkPolicy" => "networking.k8s.io/v1",
            "Namespace" | "Pod" | "ReplicationController" => "v1",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" => "apps/v1",
            "Job" | "CronJob" => "batch/v1",
            other if other.ends_with("NetworkPolicy") => {
                let reason = format!("{version} {kind} also decides about connections and is not understood");
                return problems.add(&origin, reason);
            }
            _ => {
                *self.passed_over.entry(kind).or_default() += 1;
                return;
            }
        };
        if version != expected {
            return problems.add(&origin, format!("apiVersion {version:?} is not {expected}"));
        }
        if let Err(reason) = self.take_known(&origin, &kind, document, problems) {
            problems.add(&origin, reason);
        }
    }

    fn take_list(
        &mut self,
        origin: &Origin,
        member: &str,
        version: &str,
        mut document: Value,
        problems: &mut Problems,
    ) {
        let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) else { return };
        for (number, mut item) in items.into_iter().enumerate() {
            let object = format!("{} item {}", origin.object, number + 1);
            if let (false, Some(fields)) = (member.is_empty(), item.as_object_mut()) {
                fields.entry("kind").or_insert_with(|| member.into());
                fields.entry("apiVersion").or_insert_with(|| version.into());
            }
            self.take(&Origin { object, ..origin.clone() }, member, item, problems);
        }
    }

    fn take_known(
        &mut self,
        origin: &Origin,
        kind: &str,
        document: Value,
        problems: &mut Problems,
    ) -> Result<(), String> {
        match kind {
            "NetworkPolicy" => {
                let NetworkPolicy { metadata, spec, .. } = typed(document)?;
                let key = place(&metadata)?;
                let policy = Policy { origin: origin.clone(), spec };
                unique(self.policies.insert(key, policy).is_none())
            }
            "Namespace" => {
                let Named { metadata } = typed(document)?;
                let name = metadata.name.clone().ok_or("has no name")?;
                let mut labels = metadata.labels.unwrap_or_default();
                let own = labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone());
                if own.is_some_and(|own| own != name) {
                    return Err(format!("label {NAMESPACE_NAME_LABEL} is always the namespace's name"));
                }
                unique(self.namespaces.insert(name, labels).is_none())
            }
            "Pod" => {
                let Named { metadata } = typed(document.clone())?;
                self.take_pods(origin, kind, &metadata, typed(document)?, problems)
            }
            "CronJob" => {
                let CronJob { metadata, spec } = typed(document)?;
                self.take_pods(origin, kind, &metadata, spec.job_template.spec.template, problems)
            }
            _ => {
                let Workload { metadata, spec } = typed(document)?;
                self.take_pods(origin, kind, &metadata, spec.template, problems)
            }
        }
    }

    fn take_pods(
        &mut self,
        origin: &Origin,
        kind: &str,
        owner: &Metadata,
        template: PodTemplate,
        problems: &mut Problems,
    ) -> Result<(), String> {
        let (namespace, name) = place(owner)?;
        let spec = template.spec.unwrap_or_default();
        if spec.host_network == Some(true) {
            return Err(
                "hostNetwork: Kubernetes does not define what a NetworkPolicy means for it".to_owned()
            );
        }
        let labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
        let ports = named_ports(&spec, origin, problems);
        let pod = Pod { origin: origin.clone(), labels, ports };
        unique(self.pods.insert((namespace, name, kind.to_owned()), pod).is_none())
    }
}

fn unique(is: bool) -> Result<(), String> {
    if is { Ok(()) } else { Err("is there twice".to_owned()) }
}

fn typed<T: DeserializeOwned>(document: Value) -> Result<T, String> {
    serde_json::from_value(document).map_err(|error| error.to_string())
}

fn place(metadata: &Metadata) -> Result<(String, String), String> {
    let name = metadata.name.clone().ok_or("has no name")?;
    Ok((metadata.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()), name))
}

/// `NetworkPolicy shop/web`, as far as it is known before the object has been understood.
fn title(kind: &str, document: &Value, place: &str) -> String {
    let said = |field: &str| document.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
    match (said("namespace"), said("name")) {
        (_, None) => format!("{kind} ({place})"),
        (_, Some(name)) if kind == "Namespace" => format!("{kind} {name}"),
        (namespace, Some(name)) => format!("{kind} {}/{name}", namespace.unwrap_or(DEFAULT_NAMESPACE)),
    }
}

/// Of all containers that stay: an init container only when it is a sidecar.
fn named_ports(spec: &PodSpec, origin: &Origin, problems: &mut Problems) -> BTreeMap<(String, String), u16> {
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().flatten();
    let ports = containers.chain(spec.init_containers.iter().flatten().filter(sidecar));
    let mut numbers = BTreeMap::new();
    for port in ports.flat_map(|container| container.ports.iter().flatten()) {
        let Some(name) = &port.name else { continue };
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        let known = numbers.insert((protocol, name.clone()), port.container_port);
        if known.is_some_and(|known| known != port.container_port) {
            problems.add(origin, format!("port name {name:?} stands for two numbers"));
        }
    }
    numbers
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
