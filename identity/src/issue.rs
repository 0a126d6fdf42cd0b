//! Making certificates: the root, the issuing CA with its own limits, and leaves.
//!
//! An issuer says nothing that `verify` would refuse: limits are checked here too, and every certificate is
//! read back by the profile before it leaves.

use crate::certificate::{Certificate, Chain, Claims, ProfileError, Serial};
use crate::profile::{self, Authenticity, EXTENSION_VERSION, IssuerExtension, LeafExtension};
use crate::range::{self, Range4, Range6};
use crate::{IdentityKey, IdentityPublicKey, LabelKey, Timestamp, TrustDomain, cbor};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use zeroize::Zeroizing;

pub use crate::range::default_ranges;

/// Thirty-two random bytes that become a private key.
pub type Seed = Zeroizing<[u8; 32]>;

/// At most this many label keys in an issuer's limits.
pub const MAX_LABEL_KEYS: usize = 256;

/// What an issuing CA may say; in its own certificate's extension, enforced by `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerLimits {
    /// The only trust domain it issues for.
    pub trust_domain: TrustDomain,
    /// Label keys it may vouch for. `None`: any key.
    pub label_keys: Option<Vec<LabelKey>>,
    /// Overlay IPv6 addresses it may assign: network and prefix length.
    pub v6: Range6,
    /// Overlay IPv4 addresses it may assign: network and prefix length.
    pub v4: Range4,
}

impl IssuerLimits {
    /// The first limit that `claims` goes beyond.
    pub(crate) fn check(&self, claims: &Claims) -> Result<(), String> {
        if claims.id.trust_domain != self.trust_domain {
            return Err(format!("trust domain {} is not {}", claims.id.trust_domain, self.trust_domain));
        }
        if let Some(keys) = &self.label_keys
            && let Some((key, _)) = claims.labels.iter().find(|(key, _)| !keys.contains(key))
        {
            return Err(format!("label {key} is not among its keys"));
        }
        if let Some(addresses) = claims.addresses
            && !range::contains(self.v6, self.v4, addresses)
        {
            return Err(format!("{} or {} is outside its ranges", addresses.v6, addresses.v4));
        }
        Ok(())
    }

    pub(crate) fn check_form(&self) -> Result<(), String> {
        if self.label_keys.as_ref().is_some_and(|keys| keys.len() > MAX_LABEL_KEYS) {
            return Err("more label keys than MAX_LABEL_KEYS".to_owned());
        }
        if !range::is_range_v6(self.v6) || !range::is_range_v4(self.v4) {
            return Err("address range has bits beyond its prefix".to_owned());
        }
        Ok(())
    }
}

/// Why a certificate was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot issue: {0}")]
pub struct IssueError(pub String);

/// A root: key and self-signed certificate.
pub struct Authority {
    key: IdentityKey,
    root: Vec<u8>,
    subject: Authenticity,
}

impl Authority {
    /// Makes a root for `domain`.
    ///
    /// # Errors
    /// When serial or validity are impossible.
    pub fn create(
        key: IdentityKey,
        domain: &TrustDomain,
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, IssueError> {
        let mut params =
            parameters(&format!("{domain:.40} root"), &key.public(), serial, not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&Signer(&key)).map_err(failed)?.der().to_vec();
        Self::load(key, root)
    }

    /// A root whose certificate exists already.
    ///
    /// # Errors
    /// When it is not a root of ours, or not of this key.
    pub fn load(key: IdentityKey, root: Vec<u8>) -> Result<Self, IssueError> {
        let subject = profile::read_root(&root).map_err(failed)?;
        if subject.key != key.public() {
            return Err(IssueError("root certificate is of another key".to_owned()));
        }
        Ok(Self { key, root, subject })
    }

    /// When the root begins; no issuer under it begins sooner.
    pub fn not_before(&self) -> Timestamp {
        self.subject.not_before
    }

    /// When the root ends; no issuer under it lasts longer.
    pub fn not_after(&self) -> Timestamp {
        self.subject.not_after
    }

    /// The self-signed certificate, for the trust document.
    pub fn root_der(&self) -> &[u8] {
        &self.root
    }

    /// Signs an issuing CA for `key`, returns its DER.
    ///
    /// # Errors
    /// When limits, serial or validity are impossible, or the root ends sooner.
    pub fn sign_issuer(
        &self,
        key: IdentityPublicKey,
        limits: &IssuerLimits,
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Vec<u8>, IssueError> {
        limits.check_form().map_err(IssueError)?;
        require_within(&self.subject, not_before, not_after)?;
        let mut params = parameters("bulkhead issuer", &key, serial, not_before, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.custom_extensions = vec![own_extension(
            profile::ISSUER_OID,
            &IssuerExtension {
                version: EXTENSION_VERSION,
                trust_domain: limits.trust_domain.clone(),
                label_keys: limits.label_keys.clone(),
                v6: limits.v6,
                v4: limits.v4,
            },
        )?];
        let der = sign(&params, &key, &self.key, &self.subject)?;
        IssuerCertificate::parse(&der).map_err(failed)?;
        Ok(der)
    }
}

/// An issuing CA's certificate, read but not verified.
#[derive(Clone, Debug)]
pub(crate) struct IssuerCertificate {
    pub(crate) subject: Authenticity,
    pub(crate) limits: IssuerLimits,
}

impl IssuerCertificate {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, ProfileError> {
        let (subject, IssuerExtension { version: _, trust_domain, label_keys, v6, v4 }) =
            profile::read_issuer(der)?;
        let limits = IssuerLimits { trust_domain, label_keys, v6, v4 };
        limits.check_form().map_err(ProfileError)?;
        Ok(Self { subject, limits })
    }
}

/// An issuing CA: key, its certificate under a root.
pub struct Issuer {
    key: IdentityKey,
    der: Vec<u8>,
    certificate: IssuerCertificate,
}

impl Issuer {
    /// An issuer from its key and the certificate that [`Authority::sign_issuer`] made for it.
    ///
    /// # Errors
    /// When the certificate is no issuing CA's, or not of this key.
    pub fn load(key: IdentityKey, certificate: Vec<u8>) -> Result<Self, IssueError> {
        let parsed = IssuerCertificate::parse(&certificate).map_err(failed)?;
        if parsed.subject.key != key.public() {
            return Err(IssueError("issuer certificate is of another key".to_owned()));
        }
        Ok(Self { key, der: certificate, certificate: parsed })
    }

    /// What it may say.
    pub fn limits(&self) -> &IssuerLimits {
        &self.certificate.limits
    }

    /// Also signs revocation lists with this key.
    pub fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// Its own certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.der
    }

    /// When its own certificate begins; no leaf begins sooner.
    pub fn not_before(&self) -> Timestamp {
        self.certificate.subject.not_before
    }

    /// When its own certificate ends; no leaf lasts longer.
    pub fn not_after(&self) -> Timestamp {
        self.certificate.subject.not_after
    }

    /// Certifies `claims`.
    ///
    /// # Errors
    /// When they break the profile or this issuer's limits, or outlast the issuer.
    pub fn issue(&self, claims: &Claims) -> Result<Chain, IssueError> {
        claims.check().map_err(failed)?;
        self.limits().check(claims).map_err(IssueError)?;
        require_within(&self.certificate.subject, claims.not_before, claims.not_after)?;
        let der = self.sign_leaf(claims)?;
        let read = Certificate::parse(&der).map_err(failed)?;
        if read.claims != *claims {
            return Err(IssueError("certificate does not state what was asked".to_owned()));
        }
        Chain::new(vec![der, self.der.clone()]).map_err(failed)
    }

    fn sign_leaf(&self, claims: &Claims) -> Result<Vec<u8>, IssueError> {
        let mut params =
            bare_parameters(claims.id.name.as_str(), claims.serial, claims.not_before, claims.not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![
            SanType::URI(claims.id.to_string().try_into().map_err(failed)?),
            SanType::DnsName(claims.id.dns_name().try_into().map_err(failed)?),
        ];
        params.custom_extensions = vec![own_extension(
            profile::LEAF_OID,
            &LeafExtension {
                version: EXTENSION_VERSION,
                tunnel_key: claims.tunnel_key,
                addresses: claims.addresses,
                labels: claims.labels.clone(),
                seal: claims.seal.clone(),
                binding: claims.binding,
            },
        )?];
        sign(&params, &claims.identity_key, &self.key, &self.certificate.subject)
    }
}

/// A certificate ends no later, and begins no sooner, than the one it was signed with.
fn require_within(
    authority: &Authenticity,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<(), IssueError> {
    if not_before < authority.not_before || not_after > authority.not_after {
        return Err(IssueError(format!(
            "{not_before} to {not_after} is not within its issuer's {} to {}",
            authority.not_before, authority.not_after
        )));
    }
    Ok(())
}

/// Parameters of a CA: named after its key, for chains are found by name.
fn parameters(
    what: &str,
    key: &IdentityPublicKey,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssueError> {
    // At most 64 characters (RFC 5280, appendix A.1, ub-common-name).
    let hash = data_encoding::HEXLOWER.encode(&key.fingerprint().0[..8]);
    bare_parameters(&format!("{what} {hash}"), serial, not_before, not_after)
}

fn bare_parameters(
    common_name: &str,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssueError> {
    if !serial.is_valid() {
        return Err(IssueError("serial is zero or has its top bit set".to_owned()));
    }
    if not_before >= not_after {
        return Err(IssueError("validity ends before it begins".to_owned()));
    }
    let calendar = |at: Timestamp| at.to_calendar().ok_or_else(|| IssueError(format!("{at} is too late")));
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    params.not_before = calendar(not_before)?;
    // X.509 counts the last second as valid (RFC 5280, section 4.1.2.5), `Claims` do not: `verify` is the
    // stricter of the two.
    params.not_after = calendar(not_after)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn sign(
    params: &CertificateParams,
    subject: &IdentityPublicKey,
    key: &IdentityKey,
    authority: &Authenticity,
) -> Result<Vec<u8>, IssueError> {
    let mut authority_params = CertificateParams::default();
    authority_params.distinguished_name = named(&authority.common_name);
    authority_params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = rcgen::Issuer::from_params(&authority_params, Signer(key));
    let certificate = params.signed_by(&Subject(subject), &issuer).map_err(failed)?;
    Ok(certificate.der().to_vec())
}

/// CBOR in an OCTET STRING, so that what the extension holds is DER (RFC 5280, section 4.1).
fn own_extension<T: minicbor::Encode<()>>(oid: &[u64], content: &T) -> Result<CustomExtension, IssueError> {
    let content = cbor::encode(content);
    let length = u16::try_from(content.len()).map_err(|_| IssueError("extension is too large".to_owned()))?;
    let mut der = match (length.to_be_bytes(), length) {
        ([_, low], ..0x80) => vec![0x04, low],
        ([_, low], ..0x100) => vec![0x04, 0x81, low],
        ([high, low], _) => vec![0x04, 0x82, high, low],
    };
    der.extend_from_slice(&content);
    Ok(CustomExtension::from_oid_content(oid, der))
}

fn failed(error: impl std::fmt::Display) -> IssueError {
    IssueError(error.to_string())
}

/// Lets rcgen sign with a key that it never sees.
struct Signer<'a>(&'a IdentityKey);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign_certificate(message).to_vec())
    }
}

/// The key that a certificate is for.
struct Subject<'a>(&'a IdentityPublicKey);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}
