//! The machine in the office, where operators' and policy keys are. It has no network: files go in and out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_tests::{Coordinator, Lab, Node, Output, process, program, until};

use crate::load::reaches;
use crate::policy::echo_server;

/// Permitted all the time.
pub(crate) const NARROW: u16 = 5001;
/// What the attacker wants.
pub(crate) const WIDE: u16 = 5002;

/// A rule from identities that `from` selects to the database.
pub(crate) fn rule(from: &str, port: u16) -> String {
    format!(
        "\n[[allow]]\nid = \"port-{port}\"\nfrom = \"{from}\"\nto = \"role=db\"\nports = [\"tcp/{port}\"]\n\
         why = \"a drill\"\n"
    )
}

/// A policy that permits [`NARROW`] only.
pub(crate) fn narrow() -> String {
    let schema =
        "version = 1\n\n[labels.role]\nvalues = [\"web\", \"db\"]\n\n[labels.env]\nvalues = [\"prod\"]\n";
    format!("{schema}{}", rule("role=web", NARROW))
}

/// A policy that permits [`WIDE`], too.
pub(crate) fn wide() -> String {
    format!("{}{}", narrow(), rule("role=web", WIDE))
}

/// A folder that no coordinator looks into.
pub(crate) struct Office {
    folder: PathBuf,
    drafts: std::cell::Cell<u32>,
}

impl Office {
    /// Takes the operator's and the root's key away from where `init` left them.
    pub(crate) fn open(lab: &Lab, coordinator: &Coordinator) -> Self {
        let folder = lab.folder().join("office");
        std::fs::rename(coordinator.state().join("operator"), &folder).unwrap();
        Self { folder, drafts: std::cell::Cell::new(0) }
    }

    /// Where a file is, or shall be.
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).to_string_lossy().into_owned()
    }

    /// `bulkheadctl ARGS` where no coordinator is.
    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        let mut command = process::command(program("bulkheadctl"), &["--socket", "/nonexistent"]);
        process::run(command.args(args), Duration::from_secs(60)).unwrap()
    }

    /// Makes a private key; its public half.
    pub(crate) fn keygen(&self, file: &str) -> String {
        self.ctl(&["trust", "keygen", &self.path(file)]).success().unwrap().trim().to_owned()
    }

    /// The public half of any private key.
    pub(crate) fn public(&self, file: &Path) -> String {
        self.ctl(&["trust", "public", &file.to_string_lossy()]).success().unwrap().trim().to_owned()
    }

    /// The next trust document with these changes (`--add-…`), unsigned.
    pub(crate) fn draft(&self, coordinator: &Coordinator, changes: &[&str]) -> String {
        let number = self.drafts.get() + 1;
        self.drafts.set(number);
        let draft = self.path(&format!("draft-{number}"));
        let args = [&["trust", "draft", "--out", &draft][..], changes].concat();
        coordinator.ctl(&args).unwrap().success().unwrap();
        draft
    }

    /// Adds the signature of one of our keys.
    pub(crate) fn sign(&self, draft: &str, key: &str) {
        self.ctl(&["trust", "sign", draft, "--key", &self.path(key), "--yes"]).success().unwrap();
    }

    /// The next trust document with these changes, signed by the one operator there is.
    pub(crate) fn signed_draft(&self, coordinator: &Coordinator, changes: &[&str]) -> String {
        let draft = self.draft(coordinator, changes);
        self.sign(&draft, "operator.key");
        draft
    }

    /// Signs a policy of one file without asking anybody; the signed file.
    pub(crate) fn sign_policy(
        &self,
        name: &str,
        text: &str,
        trust: &Node,
        generation: u64,
        keys: &[&str],
    ) -> String {
        let (folder, out) = (self.folder.join(format!("{name}.d")), self.path(&format!("{name}.json")));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("main.toml"), text).unwrap();
        let (folder, trust) = (folder.to_string_lossy(), trust.state().join("trust.cbor"));
        let (trust, generation) = (trust.to_string_lossy(), generation.to_string());
        let mut args =
            vec!["policy", "sign", &folder, "--out", &out, "--trust", &trust, "--generation", &generation];
        args.push("--yes");
        let keys: Vec<String> = keys.iter().map(|key| self.path(key)).collect();
        args.extend(keys.iter().flat_map(|key| ["--key", key]));
        self.ctl(&args).success().unwrap();
        out
    }
}

/// Puts a signed trust document in force, and waits until these nodes hold it.
pub(crate) fn apply_trust(coordinator: &Coordinator, draft: &str, more: &[&str], nodes: &[&Node]) {
    coordinator.ctl(&[&["trust", "apply", draft], more].concat()).unwrap().success().unwrap();
    let version = coordinator.ctl_json(&["trust", "show"]).unwrap()["version"].clone();
    for node in nodes {
        until(&format!("{} follows the trust document", node.name), Duration::from_secs(30), || {
            node.json(&["status"]).is_ok_and(|status| status["trust_version"] == version)
        });
    }
}

/// Two nodes whose coordinator has already lost its operator's key to the office.
pub(crate) struct Estate {
    pub(crate) web: Node,
    pub(crate) db: Node,
    pub(crate) office: Office,
    pub(crate) coordinator: Coordinator,
    pub(crate) lab: Lab,
}

impl Estate {
    pub(crate) fn start() -> Self {
        let lab = Lab::new().unwrap();
        let coordinator = Coordinator::start(&lab, &[]).unwrap();
        let office = Office::open(&lab, &coordinator);
        let enrol = |name: &str| Node::enrol(&lab, &coordinator, name, &[&format!("role={name}")]).unwrap();
        let (web, db) = (enrol("web"), enrol("db"));
        echo_server(&db, NARROW);
        echo_server(&db, WIDE);
        Self { web, db, office, coordinator, lab }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.coordinator.ctl_json(&["policy", "show"]).unwrap()["generation"].as_u64().unwrap()
    }

    /// Signs in the office, and applies from here.
    pub(crate) fn apply(&self, name: &str, text: &str, keys: &[&str]) {
        let file = self.office.sign_policy(name, text, &self.web, self.generation() + 1, keys);
        self.coordinator.ctl(&["policy", "apply", &file, "--wait"]).unwrap().success().unwrap();
    }

    /// A trust document with these changes, signed in the office, in force everywhere.
    pub(crate) fn trust(&self, changes: &[&str]) {
        let draft = self.office.signed_draft(&self.coordinator, changes);
        apply_trust(&self.coordinator, &draft, &[], &[&self.web, &self.db]);
    }

    pub(crate) fn reaches(&self, port: u16) -> bool {
        reaches(&self.web, (self.db.v4(), port))
    }

    /// The public half of the policy key that `init` made.
    pub(crate) fn first_policy_key(&self) -> String {
        self.office.public(&self.coordinator.state().join("policy.key"))
    }
}
