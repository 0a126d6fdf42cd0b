//! One configured provider: its settings and secret, the way to it, and what it published about itself. Description
//! and keys are kept, so that nobody can have it asked more than once a minute for either (D11).

use super::discovery::{self, Discovery};
use super::fetch::{FetchError, Fetcher};
use super::kept::{Kept, Lacking};
use super::{MAX_WORDS, ProviderConfig, SsoError, printable, roots};
use anyhow::{Context, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Keys of one provider.
pub(super) const MAX_KEYS: usize = 100;
/// Bits of an RSA key (RFC 7518, section 3.3).
pub(super) const MIN_RSA_BITS: usize = 2048;
/// Bytes of an issuer.
pub(super) const MAX_ISSUER_BYTES: usize = 512;
/// Bytes of a client's secret.
pub(super) const MAX_SECRET_BYTES: usize = 4096;

/// See the module.
pub(super) struct Provider {
    pub(super) config: ProviderConfig,
    pub(super) secret: Option<Zeroizing<String>>,
    pub(super) fetcher: Fetcher,
    described: Kept<Discovery>,
    keys: Kept<Keys>,
}

/// Public keys for signatures, as the provider lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(pub(super) Vec<Value>);

/// Why a document of a provider could not be had.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Document(String),
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Provider {
    /// Reads secret and roots; asks nobody yet.
    ///
    /// # Errors
    /// A file cannot be read, or the issuer cannot be one.
    pub(super) fn load(config: &ProviderConfig) -> Result<Self> {
        let issuer = &config.issuer;
        ensure!(issuer.len() <= MAX_ISSUER_BYTES, "its issuer is longer than {MAX_ISSUER_BYTES} bytes");
        ensure!(discovery::is_issuer(issuer), "{issuer:?} is not an https address without query or fragment");
        let secret = config.client_secret_file.as_deref().map(|file| {
            let text = Zeroizing::new(std::fs::read_to_string(file)?);
            let secret = text.trim();
            ensure!((1..=MAX_SECRET_BYTES).contains(&secret.len()), "it is empty or too long");
            Ok(Zeroizing::new(secret.to_owned()))
        });
        Ok(Self {
            secret: secret.transpose().context("cannot read its client_secret_file")?,
            fetcher: Fetcher::new(roots::load(config.ca.as_deref())?, config.private_addresses)?,
            config: config.clone(),
            described: Kept::new(),
            keys: Kept::new(),
        })
    }

    /// What it says of itself.
    pub(super) async fn describe(&self) -> Result<Arc<Discovery>, SsoError> {
        let (fetcher, issuer) = (self.fetcher.clone(), self.config.issuer.clone());
        let ask = async move {
            let body = get(&fetcher, &discovery::address(&issuer)).await?;
            discovery::parse(&body, &issuer).map_err(|error| AskError::Document(error.to_string()))
        };
        self.described.current(Instant::now(), ask).await.map_err(|lacking| self.lacking(lacking))
    }

    /// Its keys.
    pub(super) async fn keys(&self, discovery: &Discovery) -> Result<Arc<Keys>, SsoError> {
        let keys = self.keys.current(Instant::now(), self.ask_keys(discovery)).await;
        keys.map_err(|lacking| self.lacking(lacking))
    }

    /// Its keys, for a token whose key is not among `known`: a new key, or an invented one. Either way the provider
    /// is asked once a minute at most.
    pub(super) async fn keys_besides(&self, known: Arc<Keys>, discovery: &Discovery) -> Arc<Keys> {
        self.keys.other_than(&known, Instant::now(), self.ask_keys(discovery)).await.unwrap_or(known)
    }

    fn ask_keys(&self, discovery: &Discovery) -> impl Future<Output = Result<Keys, AskError>> + Send + use<> {
        let (fetcher, address) = (self.fetcher.clone(), discovery.jwks_uri.clone());
        async move {
            let body = get(&fetcher, &address).await?;
            Keys::parse(&body).map_err(|reason| AskError::Document(reason.to_owned()))
        }
    }

    fn lacking(&self, lacking: Lacking<AskError>) -> SsoError {
        let provider = self.config.name.clone();
        match lacking {
            Lacking::Failed(AskError::Fetch(source)) => SsoError::Unreachable { provider, source },
            Lacking::Failed(AskError::Document(reason)) => SsoError::Misconfigured { provider, reason },
            Lacking::Resting(reason) => SsoError::Resting { provider, reason },
        }
    }

    /// It says no to this person.
    pub(super) fn denied(&self, reason: &str) -> SsoError {
        SsoError::Denied { provider: self.config.name.clone(), reason: printable(reason.trim(), MAX_WORDS) }
    }

    /// It and we do not understand each other.
    pub(super) fn wrong(&self, reason: &str) -> SsoError {
        SsoError::Misconfigured { provider: self.config.name.clone(), reason: printable(reason, MAX_WORDS) }
    }
}

impl Keys {
    /// Keys of other kinds are left out, and so are RSA keys that are too short.
    fn parse(body: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Listed {
            keys: Vec<Value>,
        }
        let mut listed: Listed = serde_json::from_slice(body).map_err(|_| "its keys are not understood")?;
        if listed.keys.len() > MAX_KEYS {
            return Err("it has more than 100 keys");
        }
        listed.keys.retain(is_strong);
        Ok(Self(listed.keys))
    }
}

async fn get(fetcher: &Fetcher, address: &str) -> Result<Vec<u8>, AskError> {
    let mut request = Request::new(Vec::new());
    let shown = printable(address, MAX_WORDS);
    *request.uri_mut() = address.parse().map_err(|_| FetchError::Url(shown.clone()))?;
    let answer = fetcher.fetch(request).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(AskError::Document(format!("{shown} answered with status {status}"))),
    }
}

fn is_strong(key: &Value) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    match text("kty") {
        Some("RSA") => {
            let modulus =
                text("n").and_then(|n| BASE64URL_NOPAD.decode(n.as_bytes()).ok()).unwrap_or_default();
            let leading = modulus.iter().take_while(|byte| **byte == 0).count();
            (modulus.len() - leading) * 8 >= MIN_RSA_BITS
        }
        Some("EC" | "OKP") => true,
        // An `oct` key would be a shared secret.
        Some(_) | None => false,
    }
}
