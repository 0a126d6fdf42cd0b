//! OpenID Connect, in the one file that names `openidconnect`. That crate builds the requests and verifies the
//! signatures; this file says what has to hold.
//!
//! A person's token is believed when a key of the provider signed it with an algorithm that the provider lists and
//! that needs no shared secret, when it is from exactly the configured issuer, for us and no one else, in time, and
//! carries the nonce of this very sign-in. [`Attempt`] is consumed by the answer to it: state, nonce and PKCE
//! verifier serve once.

use super::claims::{self, Reading};
use super::discovery::{self, Discovery};
use super::fetch::{FetchError, Fetcher};
use super::jwt;
use super::provider::{Keys, Provider};
use super::{Claims, MAX_WORDS, ProviderConfig, RefreshToken, Renewed, SignedIn, SsoError, chain, printable};
use anyhow::{Context, Result, ensure};
use openidconnect::core::{
    CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreDeviceAuthorizationResponse, CoreIdToken,
    CoreIdTokenVerifier, CoreJsonWebKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreTokenResponse,
};
use openidconnect::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, DeviceAuthorizationUrl, EndpointNotSet, EndpointSet, ErrorResponse, ErrorResponseType,
    HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse, TokenResponse,
    TokenUrl,
};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::pin::Pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// From the begin of a sign-in to its answer.
pub const MAX_ATTEMPT: Duration = Duration::from_secs(600);
/// Seconds between two questions of a device flow, at least and at most.
pub const POLL_INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(60);
/// Algorithms with a public key. Never `none`, and never an HMAC: its key could be something public (D3).
const ALGORITHMS: &[CoreJwsSigningAlgorithm] = &[
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];
/// Errors by which a token endpoint means the person, not us: RFC 6749 section 5.2, RFC 8628 section 3.5, OpenID
/// Connect Core 1.0 section 3.1.2.6.
const DENIALS: &[&str] = &[
    "invalid_grant",
    "access_denied",
    "expired_token",
    "login_required",
    "interaction_required",
    "consent_required",
];

/// An address to talk to people and one to exchange codes: enough for all but the device flow.
type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// All configured providers. By default, none.
#[derive(Debug, Default)]
pub struct Providers(Vec<Provider>);

/// One sign-in in a browser, from leaving for the provider to coming back.
#[derive(Debug)]
pub struct Attempt {
    provider: String,
    redirect: RedirectUrl,
    state: CsrfToken,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    began: Instant,
}

/// What the browser brings back from the provider, as query parameters.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Callback {
    /// Ours, from [`Attempt::state`].
    pub state: Option<String>,
    /// To exchange for tokens.
    pub code: Option<String>,
    /// The issuer (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The same in words.
    pub error_description: Option<String>,
}

/// One sign-in by the provider's own device flow.
#[derive(Debug)]
pub struct DeviceAttempt {
    provider: String,
    answer: CoreDeviceAuthorizationResponse,
}

/// Whom a token is to be about.
#[derive(Clone, Copy)]
enum About<'a> {
    /// A person who signs in, by the nonce of this sign-in.
    Person(&'a Nonce),
    /// A person, in an answer that no browser had a part in and that so needs no nonce: a refresh or a device flow.
    Direct,
    /// A workload.
    Workload,
}

impl Providers {
    /// Reads secrets and roots; asks nobody yet.
    ///
    /// # Errors
    /// A file cannot be read, or a setting contradicts another.
    pub fn load(configs: &[ProviderConfig]) -> Result<Self> {
        for (index, config) in configs.iter().enumerate() {
            let earlier = configs.iter().take(index);
            let twins = earlier.filter(|other| {
                other.name == config.name
                    || (other.issuer == config.issuer && other.audience == config.audience)
            });
            ensure!(
                twins.count() == 0,
                "two providers are {:?}, or the same issuer with the same audience",
                config.name
            );
        }
        let load = |config: &ProviderConfig| {
            Provider::load(config).with_context(|| format!("the provider {}", config.name))
        };
        configs.iter().map(load).collect::<Result<_>>().map(Self)
    }

    /// The providers, in the order of the configuration.
    pub fn configs(&self) -> impl Iterator<Item = &ProviderConfig> {
        self.0.iter().map(|provider| &provider.config)
    }

    /// Begins a sign-in: where to send the browser, and what to keep for [`finish`](Self::finish). The caller ties the
    /// attempt to this browser, and gives each provider a `redirect_uri` of its own: that tells the answers of providers
    /// apart which do not name themselves (RFC 9700, section 4.4.2).
    ///
    /// # Errors
    /// There is no such provider for people, or it cannot be asked.
    pub async fn authorize(&self, name: &str, redirect_uri: &str) -> Result<(String, Attempt), SsoError> {
        let provider = self.for_people(name)?;
        let discovery = provider.describe().await?;
        let client = provider.client(&discovery)?;
        let redirect =
            RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| provider.wrong("our own address"))?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_redirect_uri(Cow::Borrowed(&redirect))
            .set_pkce_challenge(challenge)
            .add_scopes(provider.scopes());
        // A refresh token is given only to whom the person agrees (OpenID Connect Core 1.0, section 11).
        let request =
            if provider.config.is_offline() { request.add_prompt(CoreAuthPrompt::Consent) } else { request };
        let (url, state, nonce) = request.url();
        let attempt = Attempt {
            provider: name.to_owned(),
            redirect: redirect.clone(),
            state,
            nonce,
            verifier,
            began: Instant::now(),
        };
        Ok((url.into(), attempt))
    }

    /// Ends a sign-in with what the browser brought back.
    ///
    /// # Errors
    /// It belongs to another sign-in, the provider refuses, or its token is not believed.
    pub async fn finish(&self, attempt: Attempt, callback: &Callback) -> Result<SignedIn, SsoError> {
        let provider = self.for_people(&attempt.provider)?;
        let discovery = provider.describe().await?;
        let code = attempt.code(callback, provider, &discovery)?;
        let answer = provider
            .client(&discovery)?
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(attempt.verifier)
            .set_redirect_uri(Cow::Owned(attempt.redirect))
            .request_async(&provider.fetcher)
            .await
            .map_err(|error| provider.refusal(error))?;
        provider.signed_in(&answer, &discovery, About::Person(&attempt.nonce)).await
    }

    /// Begins the provider's own device flow.
    ///
    /// # Errors
    /// The provider has none, may not use it here, or cannot be asked.
    pub async fn device_begin(&self, name: &str) -> Result<DeviceAttempt, SsoError> {
        let provider = self.for_people(name)?;
        if !provider.config.device_flow {
            return Err(SsoError::NoProvider(format!("{name:?} with a device flow")));
        }
        let discovery = provider.describe().await?;
        let address = discovery.device_authorization_endpoint.clone();
        let address = address.ok_or_else(|| provider.wrong("it has no device flow"))?;
        let address =
            DeviceAuthorizationUrl::new(address).map_err(|_| provider.wrong("its device flow's address"))?;
        let client = provider.client(&discovery)?.set_device_authorization_url(address);
        let request = client.exchange_device_code().add_scopes(provider.scopes());
        let answer: CoreDeviceAuthorizationResponse =
            request.request_async(&provider.fetcher).await.map_err(|error| provider.refusal(error))?;
        let address = answer.verification_uri_complete().map(|complete| complete.secret().as_str());
        let https = discovery::is_https(answer.verification_uri()) && address.is_none_or(discovery::is_https);
        // What is longer makes the crate's sum of intervals overflow.
        let patient = answer.interval() <= *POLL_INTERVALS.end();
        let plain = printable(answer.user_code().secret(), MAX_WORDS) == *answer.user_code().secret();
        if https && patient && plain {
            Ok(DeviceAttempt { provider: name.to_owned(), answer })
        } else {
            Err(provider.wrong("its device flow begins with a strange address, code or interval"))
        }
    }

    /// Waits until the person has signed in on the provider's page, refused, or let it expire.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn device_wait(&self, attempt: DeviceAttempt) -> Result<SignedIn, SsoError> {
        let provider = self.for_people(&attempt.provider)?;
        let discovery = provider.describe().await?;
        let client = provider.client(&discovery)?;
        let pause = |interval: Duration| {
            tokio::time::sleep(interval.clamp(*POLL_INTERVALS.start(), *POLL_INTERVALS.end()))
        };
        let patience = attempt.answer.expires_in().min(MAX_ATTEMPT);
        let request = client.exchange_device_access_token(&attempt.answer);
        let answer = request.request_async(&provider.fetcher, pause, Some(patience)).await;
        let answer = answer.map_err(|error| provider.refusal(error))?;
        provider.signed_in(&answer, &discovery, About::Direct).await
    }

    /// Asks again about a person who signed in before. The provider has taken the token then, and may have replaced
    /// it, whether or not what it says of the person is believed.
    ///
    /// # Errors
    /// [`SsoError::Denied`] only if the provider itself said no; otherwise it has said nothing about the person.
    pub async fn refresh(
        &self,
        name: &str,
        subject: &str,
        token: &RefreshToken,
    ) -> Result<Renewed, SsoError> {
        let provider = self.for_people(name)?;
        let discovery = provider.describe().await?;
        let client = provider.client(&discovery)?;
        // What is needed to understand the answer comes first: it may replace the token, and must not be waited with.
        provider.keys(&discovery).await?;
        let token = openidconnect::RefreshToken::new(token.secret().to_owned());
        let answer = client.exchange_refresh_token(&token).request_async(&provider.fetcher).await;
        let answer = answer.map_err(|error| provider.refusal(error))?;
        let claims = provider.claims(&answer, &discovery, About::Direct).await.and_then(|claims| {
            // OpenID Connect Core 1.0, section 12.2.
            if claims.subject == subject {
                Ok(claims)
            } else {
                Err(SsoError::Token("it is about another person than the refresh token".to_owned()))
            }
        });
        Ok(Renewed { claims, refresh: refresh_token(&answer) })
    }

    /// Verifies the token of a workload, from any provider with an audience.
    ///
    /// # Errors
    /// No provider issued it for us, or it is not believed.
    pub async fn workload(&self, token: &str) -> Result<Claims, SsoError> {
        let claims = jwt::claims(&jwt::payload(token)?)?;
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let ours = |provider: &&Provider| match (&provider.config.audience, claims.get("aud")) {
            (Some(audience), Some(Value::String(one))) => audience == one,
            (Some(audience), Some(Value::Array(listed))) => listed.iter().any(|one| one == audience),
            _ => false,
        };
        let mut issued = self.0.iter().filter(|provider| provider.config.issuer == issuer);
        let provider = issued.find(ours).ok_or_else(|| {
            SsoError::NoProvider("whose issuer and audience are those of this token".to_owned())
        })?;
        let token =
            CoreIdToken::from_str(token).map_err(|_| SsoError::Token("it is not understood".to_owned()))?;
        let discovery = provider.describe().await?;
        let audience = provider.config.audience.as_deref().unwrap_or_default();
        provider.verify(&token, audience, &discovery, About::Workload).await
    }

    fn for_people(&self, name: &str) -> Result<&Provider, SsoError> {
        let known = self.0.iter().find(|provider| provider.config.name == name);
        let for_people = known.filter(|provider| provider.config.client_id.is_some());
        for_people.ok_or_else(|| SsoError::NoProvider(format!("{:?} for people", printable(name, MAX_WORDS))))
    }
}

/// The crate's requests go out by our one way.
impl<'a> AsyncHttpClient<'a> for Fetcher {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'a>>;

    fn call(&'a self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let answer = self.fetch(request).await?;
            // An endpoint says no with one of these two (RFC 6749, section 5.2; RFC 8628, section 3.5). Whatever is in
            // another, of a gateway or a limit of rates, is no word about a person; the crate would take it for one.
            let status = answer.status();
            let speaks = status.is_success() || matches!(status.as_u16(), 400 | 401);
            if speaks { Ok(answer) } else { Err(FetchError::Failed(host, status)) }
        })
    }
}

impl Attempt {
    /// The name of the provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What the callback has to bring back.
    #[must_use]
    pub fn state(&self) -> &str {
        self.state.secret()
    }

    /// The code, if the callback is the answer to this attempt.
    fn code(
        &self,
        callback: &Callback,
        provider: &Provider,
        discovery: &Discovery,
    ) -> Result<String, SsoError> {
        let state = callback.state.as_deref().ok_or(SsoError::Callback("it has no state"))?;
        if !same_secret(state, self.state.secret()) {
            return Err(SsoError::Callback("its state is another"));
        }
        if self.began.elapsed() > MAX_ATTEMPT {
            return Err(SsoError::Callback("it took more than ten minutes; begin again"));
        }
        // RFC 9207, section 2.4: against a code of one provider that is sent to another (D4).
        match callback.iss.as_deref() {
            Some(iss) if iss != provider.config.issuer => {
                return Err(SsoError::Callback("it is from another provider"));
            }
            None if discovery.authorization_response_iss_parameter_supported => {
                return Err(SsoError::Callback("it does not say from which provider it is"));
            }
            Some(_) | None => {}
        }
        if let Some(error) = &callback.error {
            let words = callback.error_description.as_deref().unwrap_or_default();
            return Err(provider.denied(&format!("{error} {words}")));
        }
        callback.code.clone().ok_or(SsoError::Callback("it has no code"))
    }
}

impl DeviceAttempt {
    /// The name of the provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What the person types on the provider's page.
    #[must_use]
    pub fn user_code(&self) -> &str {
        self.answer.user_code().secret()
    }

    /// The provider's page.
    #[must_use]
    pub fn verification_uri(&self) -> &str {
        self.answer.verification_uri()
    }

    /// The same with the code in it, where the provider has such.
    #[must_use]
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.answer.verification_uri_complete().map(|complete| complete.secret().as_str())
    }

    /// How long the person has.
    #[must_use]
    pub fn expires_in(&self) -> Duration {
        self.answer.expires_in().min(MAX_ATTEMPT)
    }
}

impl Provider {
    fn scopes(&self) -> impl Iterator<Item = Scope> {
        std::iter::once("profile")
            .chain(self.config.scopes.iter().map(String::as_str))
            .map(|s| Scope::new(s.to_owned()))
    }

    fn client(&self, discovery: &Discovery) -> Result<Client, SsoError> {
        let id = self.config.client_id.clone().unwrap_or_default();
        let issuer = IssuerUrl::new(self.config.issuer.clone()).map_err(|_| self.wrong("its issuer"))?;
        let authorize =
            discovery.authorization_endpoint.clone().and_then(|address| AuthUrl::new(address).ok());
        let token = discovery.token_endpoint.clone().and_then(|address| TokenUrl::new(address).ok());
        let (Some(authorize), Some(token)) = (authorize, token) else {
            return Err(self.wrong("it only issues tokens; people cannot sign in there"));
        };
        // Keys are not the client's business: `verify` has them.
        let client = CoreClient::new(ClientId::new(id), issuer, CoreJsonWebKeySet::default())
            .set_auth_uri(authorize)
            .set_token_uri(token)
            .set_auth_type(auth_type(discovery));
        Ok(match &self.secret {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.to_string())),
            None => client,
        })
    }

    async fn signed_in(
        &self,
        answer: &CoreTokenResponse,
        discovery: &Discovery,
        about: About<'_>,
    ) -> Result<SignedIn, SsoError> {
        let claims = self.claims(answer, discovery, about).await?;
        // One that nobody asked for ends with the session at the provider (OpenID Connect Core 1.0, section 11). Its end
        // would read as a denial.
        let refresh = refresh_token(answer).filter(|_| self.config.is_offline());
        Ok(SignedIn { claims, refresh })
    }

    async fn claims(
        &self,
        answer: &CoreTokenResponse,
        discovery: &Discovery,
        about: About<'_>,
    ) -> Result<Claims, SsoError> {
        let token = answer.id_token().ok_or_else(|| self.wrong("it sent no ID token"))?;
        let us = self.config.client_id.as_deref().unwrap_or_default();
        self.verify(token, us, discovery, about).await
    }

    /// OpenID Connect Core 1.0, section 3.1.3.7.
    async fn verify(
        &self,
        token: &CoreIdToken,
        audience: &str,
        discovery: &Discovery,
        about: About<'_>,
    ) -> Result<Claims, SsoError> {
        let payload = jwt::payload(&token.to_string())?;
        let keys = self.keys(discovery).await?;
        let judged = match self.judge(token, audience, discovery, &keys, about) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let keys = self.keys_besides(keys, discovery).await;
                self.judge(token, audience, discovery, &keys, about)
            }
            judged => judged,
        };
        judged.map_err(|error| SsoError::Token(chain(&error)))?;
        jwt::not_early(&jwt::claims(&payload)?)?;
        let (provider, issuer) = (&self.config.name, &self.config.issuer);
        let reading = Reading { provider, issuer, groups_claim: &self.config.groups_claim };
        claims::parse(&payload, reading)
            .map_err(|source| SsoError::Claims { provider: self.config.name.clone(), source })
    }

    fn judge(
        &self,
        token: &CoreIdToken,
        audience: &str,
        discovery: &Discovery,
        keys: &Keys,
        about: About<'_>,
    ) -> Result<(), ClaimsVerificationError> {
        let issuer = IssuerUrl::new(self.config.issuer.clone())
            .map_err(|_| ClaimsVerificationError::InvalidIssuer("it is no address".to_owned()))?;
        let verifier =
            CoreIdTokenVerifier::new_public_client(ClientId::new(audience.to_owned()), issuer, key_set(keys))
                .set_allowed_algs(algorithms(discovery))
                .set_time_fn(|| moment(jwt::earliest()))
                .set_issue_time_verifier_fn(|issued| match issued.timestamp() <= jwt::latest() {
                    true => Ok(()),
                    false => Err("it was issued in the future".to_owned()),
                })
                // Judged below, together with who the token was made for.
                .set_other_audience_verifier_fn(|_| true);
        let claims = token.claims(&verifier, |found: Option<&Nonce>| match (about, found) {
            (About::Person(nonce), Some(found)) if same_secret(found.secret(), nonce.secret()) => Ok(()),
            (About::Person(_), Some(_)) => Err("it is of another sign-in".to_owned()),
            (About::Person(_), None) => Err("it has none".to_owned()),
            (About::Direct, _) | (About::Workload, None) => Ok(()),
            (About::Workload, Some(_)) => Err("a person signed in with it".to_owned()),
        })?;
        let others = claims.audiences().iter().any(|other| other.as_str() != audience);
        let party = claims.authorized_party().map(|party| party.as_str());
        let for_us = match about {
            About::Person(_) | About::Direct => party.map_or(!others, |party| party == audience),
            About::Workload => !others,
        };
        let refused =
            || ClaimsVerificationError::InvalidAudience("it was made for another application too".to_owned());
        if for_us { Ok(()) } else { Err(refused()) }
    }

    /// What an error of the token endpoint means.
    fn refusal<T>(&self, error: RequestTokenError<FetchError, StandardErrorResponse<T>>) -> SsoError
    where
        T: ErrorResponseType + std::fmt::Display + 'static,
        StandardErrorResponse<T>: ErrorResponse,
    {
        match error {
            RequestTokenError::ServerResponse(answer)
                if DENIALS.contains(&answer.error().to_string().as_str()) =>
            {
                self.denied(&answer.to_string())
            }
            RequestTokenError::ServerResponse(answer) => self.wrong(&answer.to_string()),
            RequestTokenError::Request(source) => {
                SsoError::Unreachable { provider: self.config.name.clone(), source }
            }
            // Without the answer: there are tokens in it (S3).
            RequestTokenError::Parse(error, _) => {
                self.wrong(&format!("its answer is not understood at `{}`", error.path()))
            }
            RequestTokenError::Other(reason) => self.wrong(&reason),
        }
    }
}

fn refresh_token(answer: &CoreTokenResponse) -> Option<RefreshToken> {
    answer.refresh_token().map(|token| RefreshToken::new(token.secret().clone()))
}

/// `client_secret_basic` unless the provider says that it does not take it (OpenID Connect Discovery 1.0, section 3).
fn auth_type(discovery: &Discovery) -> AuthType {
    let methods = discovery.token_endpoint_auth_methods_supported.as_deref();
    let takes = |method: &str| methods.is_some_and(|methods| methods.iter().any(|m| m == method));
    if takes("client_secret_post") && !takes("client_secret_basic") {
        AuthType::RequestBody
    } else {
        AuthType::BasicAuth
    }
}

/// What the provider signs with and we take. One that lists nothing signs with RS256, which all must (OpenID Connect
/// Discovery 1.0, section 3).
fn algorithms(discovery: &Discovery) -> Vec<CoreJwsSigningAlgorithm> {
    let listed = &discovery.id_token_signing_alg_values_supported;
    if listed.is_empty() {
        return vec![CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256];
    }
    let named = listed.iter().filter_map(|name| serde_json::from_value(name.as_str().into()).ok());
    named.filter(|algorithm| ALGORITHMS.contains(algorithm)).collect()
}

/// Keys in the crate's form; those that it does not know are left out.
fn key_set(keys: &Keys) -> CoreJsonWebKeySet {
    let known = keys.0.iter().filter_map(|key| serde_json::from_value::<CoreJsonWebKey>(key.clone()).ok());
    CoreJsonWebKeySet::new(known.collect())
}

/// A moment that cannot be written lies at the end of time: nothing is valid then.
fn moment(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

/// Compares digests, so that the time it takes tells nothing of the secret.
fn same_secret(one: &str, other: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest(one).as_ref() == digest(other).as_ref()
}
