//! Reading X.509: the shape of our certificates, and no other.
//!
//! Strict on purpose. A field that we never write and do not understand may mean something to somebody, so
//! a certificate that has one is refused, whoever signed it.

use crate::certificate::{Claims, MAX_CERTIFICATE_BYTES, ProfileError, Serial};
use crate::range::{Range4, Range6};
use crate::{
    IdentityPublicKey, KeyBinding, LabelKey, Labels, OverlayAddrs, Seal, SpiffeId, Timestamp, TrustDomain,
    TunnelPublicKey, cbor,
};
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer, OctetString};
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_SIG_ED25519, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
};
use x509_parser::x509::X509Version;
use x509_parser::{asn1_rs::oid, certificate::X509Certificate};

/// Our leaf extension: [`LeafExtension`] in CBOR, in an OCTET STRING. The arc is an example until a private
/// enterprise number is registered.
pub(crate) const LEAF_OID: &[u64] = &[1, 3, 6, 1, 4, 1, 58888, 1, 1];
/// Our issuer extension: [`IssuerExtension`] in CBOR, in an OCTET STRING.
pub(crate) const ISSUER_OID: &[u64] = &[1, 3, 6, 1, 4, 1, 58888, 1, 2];
static LEAF_EXTENSION: Oid<'static> = oid!(1.3.6.1.4.1.58888.1.1);
static ISSUER_EXTENSION: Oid<'static> = oid!(1.3.6.1.4.1.58888.1.2);

/// Version of both extensions. A reader refuses any other.
pub(crate) const EXTENSION_VERSION: u8 = 1;

/// KeyUsage bits, the first bit of RFC 5280, section 4.2.1.3 being the lowest here.
const DIGITAL_SIGNATURE: u16 = 1 << 0;
const KEY_CERT_SIGN: u16 = 1 << 5;
const CRL_SIGN: u16 = 1 << 6;

/// What a leaf says that X.509 has no field for.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct LeafExtension {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) tunnel_key: Option<TunnelPublicKey>,
    #[n(2)]
    pub(crate) addresses: Option<OverlayAddrs>,
    #[n(3)]
    pub(crate) labels: Labels,
    #[n(4)]
    pub(crate) seal: Option<Seal>,
    #[n(5)]
    pub(crate) binding: Option<KeyBinding>,
}

/// What an issuing CA is limited to.
#[derive(Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct IssuerExtension {
    #[n(0)]
    pub(crate) version: u8,
    #[n(1)]
    pub(crate) trust_domain: TrustDomain,
    #[n(2)]
    pub(crate) label_keys: Option<Vec<LabelKey>>,
    #[n(3)]
    pub(crate) v6: Range6,
    #[n(4)]
    pub(crate) v4: Range4,
}

/// What any of our certificates has.
#[derive(Clone, Debug)]
pub(crate) struct Authenticity {
    pub(crate) common_name: String,
    pub(crate) key: IdentityPublicKey,
    pub(crate) serial: Serial,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

impl Authenticity {
    /// From `not_before` to the second before `not_after`.
    pub(crate) fn valid_at(&self, wall: Timestamp) -> bool {
        wall >= self.not_before && wall < self.not_after
    }
}

/// Reads a leaf.
pub(crate) fn read_leaf(der: &[u8]) -> Result<Claims, ProfileError> {
    let certificate = open(der)?;
    let subject = read_subject(&certificate)?;
    let extensions = Extensions::read(&certificate, Some(&LEAF_EXTENSION))?;
    let (uri, dns_name) = extensions.alternative_names()?;
    let id = SpiffeId::parse(uri).map_err(|error| ProfileError(error.to_string()))?;
    if dns_name != id.dns_name() {
        return refuse("DNS name is not <name>.<trust domain>");
    }
    if subject.common_name != id.name.as_str() {
        return refuse("subject is not the name");
    }
    extensions.require_end_entity()?;
    let own: LeafExtension = extensions.own()?;
    if own.version != EXTENSION_VERSION {
        return refuse("extension has an unknown version");
    }
    let claims = Claims {
        id,
        identity_key: subject.key,
        tunnel_key: own.tunnel_key,
        addresses: own.addresses,
        labels: own.labels,
        serial: subject.serial,
        not_before: subject.not_before,
        not_after: subject.not_after,
        seal: own.seal,
        binding: own.binding,
    };
    claims.check()?;
    Ok(claims)
}

/// Reads an issuing CA: a CA for leaves only, with limits.
pub(crate) fn read_issuer(der: &[u8]) -> Result<(Authenticity, IssuerExtension), ProfileError> {
    let certificate = open(der)?;
    let subject = read_subject(&certificate)?;
    let extensions = Extensions::read(&certificate, Some(&ISSUER_EXTENSION))?;
    extensions.require_authority(0)?;
    let own: IssuerExtension = extensions.own()?;
    if own.version != EXTENSION_VERSION {
        return refuse("extension has an unknown version");
    }
    Ok((subject, own))
}

/// Reads a root: a CA for issuing CAs, without limits of its own.
pub(crate) fn read_root(der: &[u8]) -> Result<Authenticity, ProfileError> {
    let certificate = open(der)?;
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return refuse("root is not self-signed");
    }
    let extensions = Extensions::read(&certificate, None)?;
    extensions.require_authority(1)?;
    read_subject(&certificate)
}

/// Whether `key` signed this certificate.
pub(crate) fn is_signed_by(der: &[u8], key: &IdentityPublicKey) -> bool {
    open(der).is_ok_and(|certificate| {
        key.verify_certificate(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
    })
}

fn open(der: &[u8]) -> Result<X509Certificate<'_>, ProfileError> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        return refuse("larger than MAX_CERTIFICATE_BYTES");
    }
    // x509-parser lets some deviations from DER pass in the frame that no signature covers; webpki does not.
    webpki::EndEntityCert::try_from(&CertificateDer::from(der))
        .map_err(|error| ProfileError(format!("malformed: {error:?}")))?;
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| ProfileError(format!("malformed: {error}")))?;
    if !rest.is_empty() {
        return refuse("trailing bytes");
    }
    if certificate.version() != X509Version::V3 {
        return refuse("not version 3");
    }
    for algorithm in [&certificate.signature_algorithm, &certificate.tbs_certificate.signature] {
        if algorithm.algorithm != OID_SIG_ED25519 || algorithm.parameters.is_some() {
            return refuse("not signed with Ed25519");
        }
    }
    if certificate.signature_value.unused_bits != 0 {
        return refuse("signature is not whole bytes");
    }
    Ok(certificate)
}

fn read_subject(certificate: &X509Certificate<'_>) -> Result<Authenticity, ProfileError> {
    let mut names = certificate.subject().iter_attributes();
    let (Some(name), None) = (names.next(), names.next()) else {
        return refuse("subject is not one common name");
    };
    if *name.attr_type() != x509_parser::oid_registry::OID_X509_COMMON_NAME {
        return refuse("subject is not one common name");
    }
    let common_name = name.as_str().map_err(|_| ProfileError("common name is not text".to_owned()))?;
    let info = certificate.public_key();
    if info.algorithm.algorithm != OID_SIG_ED25519 || info.algorithm.parameters.is_some() {
        return refuse("key is not an Ed25519 key");
    }
    let key = IdentityPublicKey::parse(&info.subject_public_key.data)
        .map_err(|error| ProfileError(error.to_string()))?;
    let validity = certificate.validity();
    Ok(Authenticity {
        common_name: common_name.to_owned(),
        key,
        serial: Serial::from_integer(certificate.raw_serial())
            .ok_or_else(|| ProfileError("serial is not a positive number of 16 bytes".to_owned()))?,
        not_before: to_timestamp(validity.not_before.timestamp())?,
        not_after: to_timestamp(validity.not_after.timestamp())?,
    })
}

fn to_timestamp(seconds: i64) -> Result<Timestamp, ProfileError> {
    u64::try_from(seconds).map(Timestamp).map_err(|_| ProfileError("validity before 1970".to_owned()))
}

/// The extensions of one certificate: each known to us, none twice.
struct Extensions<'a> {
    all: &'a [X509Extension<'a>],
    own: Option<&'a Oid<'static>>,
}

impl<'a> Extensions<'a> {
    /// `own` is the one of our extensions that this kind of certificate may have.
    fn read(
        certificate: &'a X509Certificate<'a>,
        own: Option<&'a Oid<'static>>,
    ) -> Result<Self, ProfileError> {
        let all = certificate.extensions();
        for (at, extension) in all.iter().enumerate() {
            let standard = [
                &OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
                &OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
                &OID_X509_EXT_SUBJECT_ALT_NAME,
                &OID_X509_EXT_KEY_USAGE,
                &OID_X509_EXT_EXTENDED_KEY_USAGE,
                &OID_X509_EXT_BASIC_CONSTRAINTS,
            ];
            if Some(&extension.oid) != own && !standard.contains(&&extension.oid) {
                return Err(ProfileError(format!("unknown extension {}", extension.oid)));
            }
            if all[..at].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(ProfileError(format!("extension {} twice", extension.oid)));
            }
        }
        Ok(Self { all, own })
    }

    fn find(&self, oid: &Oid<'static>) -> Option<&'a X509Extension<'a>> {
        self.all.iter().find(|extension| &extension.oid == oid)
    }

    /// Exactly one URI and one DNS name (X.509-SVID, section 2).
    fn alternative_names(&self) -> Result<(&'a str, &'a str), ProfileError> {
        let extension = self.find(&OID_X509_EXT_SUBJECT_ALT_NAME).map(X509Extension::parsed_extension);
        let Some(ParsedExtension::SubjectAlternativeName(names)) = extension else {
            return refuse("no alternative names");
        };
        match names.general_names.as_slice() {
            [GeneralName::URI(uri), GeneralName::DNSName(dns)] => Ok((uri, dns)),
            _ => refuse("alternative names are not one URI and one DNS name"),
        }
    }

    /// For TLS in both directions, and no CA.
    fn require_end_entity(&self) -> Result<(), ProfileError> {
        if self.basic_constraints()? != (false, None) {
            return refuse("leaf is a CA");
        }
        if self.key_usage()? != DIGITAL_SIGNATURE {
            return refuse("key usage is not digital signature");
        }
        let extension = self.find(&OID_X509_EXT_EXTENDED_KEY_USAGE).map(X509Extension::parsed_extension);
        let Some(ParsedExtension::ExtendedKeyUsage(usage)) = extension else {
            return refuse("no extended key usage");
        };
        let others = usage.any
            || usage.code_signing
            || usage.email_protection
            || usage.time_stamping
            || usage.ocsp_signing
            || !usage.other.is_empty();
        if !usage.server_auth || !usage.client_auth || others {
            return refuse("extended key usage is not TLS server and client");
        }
        Ok(())
    }

    fn require_authority(&self, path_length: u32) -> Result<(), ProfileError> {
        if self.basic_constraints()? != (true, Some(path_length)) {
            return Err(ProfileError(format!("not a CA with path length {path_length}")));
        }
        if self.key_usage()? != KEY_CERT_SIGN | CRL_SIGN {
            return refuse("key usage is not to sign certificates and revocations");
        }
        if self.find(&OID_X509_EXT_EXTENDED_KEY_USAGE).is_some() {
            return refuse("CA with an extended key usage");
        }
        if self.find(&OID_X509_EXT_SUBJECT_ALT_NAME).is_some() {
            return refuse("CA with alternative names");
        }
        Ok(())
    }

    fn basic_constraints(&self) -> Result<(bool, Option<u32>), ProfileError> {
        match self.find(&OID_X509_EXT_BASIC_CONSTRAINTS).map(X509Extension::parsed_extension) {
            Some(ParsedExtension::BasicConstraints(constraints)) => {
                Ok((constraints.ca, constraints.path_len_constraint))
            }
            _ => refuse("no basic constraints"),
        }
    }

    fn key_usage(&self) -> Result<u16, ProfileError> {
        match self.find(&OID_X509_EXT_KEY_USAGE).map(X509Extension::parsed_extension) {
            Some(ParsedExtension::KeyUsage(usage)) => Ok(usage.flags),
            _ => refuse("no key usage"),
        }
    }

    /// Our own extension, out of its OCTET STRING.
    fn own<T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>>(&self) -> Result<T, ProfileError> {
        let extension = self
            .own
            .and_then(|own| self.find(own))
            .ok_or_else(|| ProfileError("our extension is missing".to_owned()))?;
        let (rest, content) = OctetString::from_der(extension.value)
            .map_err(|_| ProfileError("our extension is not an octet string".to_owned()))?;
        if !rest.is_empty() {
            return refuse("trailing bytes in our extension");
        }
        cbor::decode(content.as_ref()).map_err(|error| ProfileError(format!("our extension: {error}")))
    }
}

fn refuse<T>(why: &str) -> Result<T, ProfileError> {
    Err(ProfileError(why.to_owned()))
}
