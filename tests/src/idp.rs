//! A company's OpenID provider: the certified `oidc-provider` of npm, with users and groups that a test changes while it
//! runs (tests/idp/provider.mjs says what it offers).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::coordinator::START_LIMIT;
use crate::namespace::COMMAND_LIMIT;
use crate::{Lab, Namespace, Process, WebCa, installed, process, source_root, until_some};

/// The programs in tests/idp.
const PROGRAMS: [&str; 5] = ["keys.mjs", "mint.mjs", "pages.mjs", "person.mjs", "provider.mjs"];

/// Its files: who there is, what it signs with, what the confidential client says.
const USERS: &str = "users.json";
const KEYS: &str = "keys.json";
const SECRET: &str = "secret";

/// What the first line that the provider prints begins with.
const READY: &str = "issuer ";

/// Pages and redirects of one sign-in; it takes five.
const MAX_PAGES: usize = 10;

/// A provider, running until dropped.
#[derive(Debug)]
pub struct Idp {
    /// Its issuer, exactly as in its tokens.
    pub issuer: String,
    /// Its host.
    pub host: Namespace,
    folder: PathBuf,
    users: BTreeMap<String, Value>,
    process: Process,
}

impl Idp {
    /// The confidential client: `client_secret_basic` with [`Idp::CLIENT_SECRET`]; its ID tokens are RS256.
    pub const CLIENT: &str = "bulkhead";
    /// The secret of [`Idp::CLIENT`].
    pub const CLIENT_SECRET: &str = "the secret of the confidential client";
    /// The client without a secret; its ID tokens are ES256.
    pub const PUBLIC_CLIENT: &str = "bulkhead-public";

    /// A provider on a host of its own, `name`, whose clients may be called back at `redirects`.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not answer in time, with its log.
    pub fn start(lab: &Lab, name: &str, ca: &WebCa, redirects: &[&str]) -> Result<Self> {
        let host = lab.host(name)?;
        let folder = lab.folder().join(name);
        stage(&folder)?;
        let files = ca.issue(name, IpAddr::V4(host.v4))?;
        std::fs::write(folder.join(SECRET), Self::CLIENT_SECRET)?;
        std::fs::write(folder.join(USERS), "{}")?;

        let mut command = host.command("node");
        command.arg(folder.join("provider.mjs")).args(["--listen", &format!("{}:9443", host.v4)]);
        command
            .args(["--name", name])
            .arg("--certificate")
            .arg(files.certificate)
            .arg("--key")
            .arg(files.key);
        command.arg("--users").arg(folder.join(USERS)).arg("--keys").arg(folder.join(KEYS));
        command.arg("--secret").arg(folder.join(SECRET));
        for redirect in redirects {
            command.args(["--redirect", redirect]);
        }
        let mut process = Process::start(&mut command, &folder.join("log"))?;
        let issuer = until_some("the provider listens", START_LIMIT, || {
            assert!(process.running(), "the provider ended:\n{}", process.log());
            process.log().lines().find_map(|line| line.strip_prefix(READY)).map(ToOwned::to_owned)
        });
        Ok(Self { issuer, host, folder, users: BTreeMap::new(), process })
    }

    /// Everything it has logged: each request as `METHOD PATH`, each refusal with its reason.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The subject of a user: the same at each provider, as a hostile one would choose it.
    #[must_use]
    pub fn subject(user: &str) -> String {
        format!("u-{user}")
    }

    /// The password of a user.
    #[must_use]
    pub fn password(user: &str) -> String {
        format!("only {user} knows this")
    }

    /// A user who is in these groups from now on: a new one, or with new groups, and not disabled.
    ///
    /// # Errors
    /// When the users' file cannot be written.
    pub fn put_user(&mut self, user: &str, groups: &[&str]) -> Result<()> {
        self.put(user, json!({ "groups": groups }))
    }

    /// From now on the user cannot sign in, and no token is made for him.
    ///
    /// # Errors
    /// When the users' file cannot be written.
    pub fn disable(&mut self, user: &str) -> Result<()> {
        self.put(user, json!({ "disabled": true }))
    }

    /// A user with `fields` of the users' file besides name, subject and password (which they may replace).
    ///
    /// # Errors
    /// When the users' file cannot be written.
    pub fn put(&mut self, user: &str, fields: Value) -> Result<()> {
        let mut entry = json!({
            "subject": Self::subject(user),
            "password": Self::password(user),
            "name": format!("{user} of the company"),
        });
        if let (Some(entry), Value::Object(fields)) = (entry.as_object_mut(), fields) {
            entry.extend(fields);
        }
        self.users.insert(user.to_owned(), entry);
        // The provider reads it on each use, and must never see half of it.
        let path = self.folder.join(USERS);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(&self.users)?)?;
        std::fs::rename(new, path).context("replacing the users' file")
    }

    /// Signs a user in without a browser, as an attacker's script would, from `url` at the authorization endpoint on. Returns
    /// the address that the provider sends the browser back to, code and all, which nobody has visited.
    ///
    /// # Errors
    /// When the provider refuses with a page of its own.
    pub fn sign_in(&self, from: &Namespace, ca: &WebCa, url: &str, user: &str) -> Result<String> {
        let jar = self.folder.join("cookies");
        let page = self.folder.join("page");
        // A new visitor each time; there is no jar before the first.
        let _ = std::fs::remove_file(&jar);
        let visit = |url: &str, form: &[&str]| -> Result<String> {
            let mut command = from.command("curl");
            command.args(["--silent", "--write-out", "%{redirect_url}", "--cacert"]).arg(ca.certificate());
            command.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar).arg("--output").arg(&page);
            for field in form {
                command.args(["--data-urlencode", field]);
            }
            process::run(command.arg(url), COMMAND_LIMIT)?.success()
        };
        let credentials = [format!("user={user}"), format!("password={}", Self::password(user))];
        let mut at = url.to_owned();
        for _ in 0..MAX_PAGES {
            let next = visit(&at, &[])?;
            let next = if next.is_empty() {
                let shown = std::fs::read_to_string(&page)?;
                let (act, form) = if shown.contains("<title>Sign in at") {
                    ("sign-in", credentials.each_ref().map(String::as_str).to_vec())
                } else if shown.contains("<title>Allow ") {
                    ("allow", vec!["answer=yes"])
                } else {
                    bail!("at {at}: {shown}");
                };
                visit(&format!("{at}/{act}"), &form)?
            } else {
                next
            };
            ensure!(!next.is_empty(), "at {at}: {}", std::fs::read_to_string(&page)?);
            if !next.starts_with(&self.issuer) {
                return Ok(next);
            }
            at = next;
        }
        bail!("the provider does not come to an end")
    }

    /// A token for a workload, signed by this provider, ten minutes long; `claims` come in addition.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn workload_token(&self, subject: &str, audience: &str, claims: &Value) -> Result<String> {
        let claims = claims.to_string();
        self.mint(&["--subject", subject, "--audience", audience, "--claims", &claims])
    }

    /// A token with the options of tests/idp/mint.mjs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn mint(&self, options: &[&str]) -> Result<String> {
        let mut command = process::command("node", &[]);
        command.arg(self.folder.join("mint.mjs")).arg("--keys").arg(self.folder.join(KEYS));
        command.args(["--issuer", &self.issuer]).args(options);
        Ok(process::run(&mut command, COMMAND_LIMIT)?.success()?.trim().to_owned())
    }
}

/// Makes `folder` with the programs of tests/idp and, beside them, a link to what they import: Node looks for a package
/// next to the program that names it, and nothing is installed in the source tree.
pub(crate) fn stage(folder: &Path) -> Result<()> {
    let packages = installed("idp")?.join("node_modules");
    std::fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    for program in PROGRAMS {
        std::fs::copy(source_root().join("tests/idp").join(program), folder.join(program))?;
    }
    symlink(packages, folder.join("node_modules")).context("linking the packages")
}
