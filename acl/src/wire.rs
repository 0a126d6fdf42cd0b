//! Rules as signed bytes (CBOR), strict in both directions.
//!
//! A reader that skipped a condition it does not know would widen access. So every array has its exact
//! length, an unknown kind of term is refused, everyone is written out as `*` rather than as an empty list,
//! and every count and string has a limit that is checked before anything is kept.

use std::{collections::BTreeSet, sync::Arc};

use bulkhead_identity::{LabelKey, LabelValue, NodeName, Timestamp};
use minicbor::{
    Decode, Decoder, Encode, Encoder,
    data::Type,
    decode::Error,
    encode::{self, Write},
};

use crate::{
    Hours, PortSet, Rule, RuleId, RuleSet,
    hours::{MAX_HOURS, MAX_HOURS_BYTES},
    selector::{MAX_TERMS, MAX_VALUES, Selector, Term},
    source::{MAX_FILE_NAME_BYTES, MAX_RELATED, MAX_RULES, is_file_name},
    syntax::{MAX_NAME_BYTES, MAX_USER_BYTES, is_name, is_user_part},
};

const EVERYONE: &str = "*";

const IN: u8 = 0;
const NOT_IN: u8 = 1;
const EXISTS: u8 = 2;
const ABSENT: u8 = 3;
const NODE: u8 = 4;
const USER: u8 = 5;

const RULE_PARTS: u64 = 10;

impl<C> Encode<C> for RuleSet {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(2)?.encode_with(&self.allow, ctx)?.encode_with(&self.never, ctx)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RuleSet {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        array_of(d, 2)?;
        let (allow, never) = (rules(d, ctx)?, rules(d, ctx)?);
        in_order(Self { allow, never })
    }
}

/// A set that came in two lists, if ids are unique and in order, and rules not too many.
pub(crate) fn in_order(rules: RuleSet) -> Result<RuleSet, Error> {
    let RuleSet { allow, never } = &rules;
    if allow.len() + never.len() > MAX_RULES {
        return Err(Error::message("more rules than MAX_RULES"));
    }
    let ascending = |list: &[Rule]| list.is_sorted_by(|a, b| a.id < b.id);
    if !ascending(allow) || !ascending(never) {
        return Err(Error::message("rules are not in the order of their ids"));
    }
    let mut ids = BTreeSet::new();
    if !allow.iter().chain(never).all(|rule| ids.insert(&rule.id)) {
        return Err(Error::message("two rules have one id"));
    }
    Ok(rules)
}

/// One list of rules.
pub(crate) fn rules<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Vec<Rule>, Error> {
    list(d, MAX_RULES, "more rules than MAX_RULES", |d| d.decode_with(ctx))
}

impl<C> Encode<C> for Rule {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(RULE_PARTS)?.str(&self.id.0)?;
        e.encode_with(&self.from, ctx)?.encode_with(&self.to, ctx)?;
        e.encode_with(&self.related, ctx)?.encode_with(&self.ports, ctx)?;
        e.encode_with(self.not_before, ctx)?.encode_with(self.until, ctx)?;
        e.array(self.hours.len() as u64)?;
        for hours in &self.hours {
            e.str(&hours.to_string())?;
        }
        e.str(&self.file)?.u64(self.line as u64)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Rule {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        array_of(d, RULE_PARTS)?;
        let id = text(d, MAX_NAME_BYTES)?;
        if !is_name(id) {
            return Err(Error::message("a rule's id has characters it may not have"));
        }
        let rule = Self {
            id: RuleId(Arc::from(id)),
            from: d.decode_with(ctx)?,
            to: d.decode_with(ctx)?,
            related: list(d, MAX_RELATED, "more related labels than MAX_RELATED", |d| {
                Ok(d.decode::<LabelKey>()?.as_str().to_owned())
            })?,
            ports: PortSet::decode(d, ctx)?,
            not_before: d.decode::<Option<Timestamp>>()?,
            until: d.decode::<Option<Timestamp>>()?,
            hours: list(d, MAX_HOURS, "more hours than MAX_HOURS", |d| {
                Hours::parse_canonical(text(d, MAX_HOURS_BYTES)?).map_err(Error::message)
            })?,
            file: text(d, MAX_FILE_NAME_BYTES)?.to_owned(),
            line: usize::try_from(d.u64()?).map_err(|_| Error::message("a line number is too large"))?,
        };
        if !is_file_name(&rule.file) {
            return Err(Error::message("a file name has characters it may not have"));
        }
        Ok(rule)
    }
}

impl<C> Encode<C> for Selector {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        if self.is_everyone() {
            return e.str(EVERYONE)?.ok();
        }
        e.encode_with(self.terms(), ctx)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Selector {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Error> {
        if d.datatype()? == Type::String {
            let everyone = text(d, EVERYONE.len())? == EVERYONE;
            return everyone.then(Self::everyone).ok_or_else(|| Error::message("not a selector"));
        }
        let terms: Vec<Term> = list(d, MAX_TERMS, "more terms than MAX_TERMS", |d| d.decode_with(ctx))?;
        let ordered = terms.is_sorted_by(|a, b| a < b);
        let selector = ordered.then_some(terms).and_then(Self::all_of);
        selector.ok_or_else(|| Error::message("a selector is empty or not in order"))
    }
}

impl<C> Encode<C> for Term {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::In(key, values) => encode_values(e, ctx, IN, key, values),
            Self::NotIn(key, values) => encode_values(e, ctx, NOT_IN, key, values),
            Self::Exists(key) => e.array(2)?.u8(EXISTS)?.encode_with(key, ctx)?.ok(),
            Self::Absent(key) => e.array(2)?.u8(ABSENT)?.encode_with(key, ctx)?.ok(),
            Self::Node(name) => e.array(2)?.u8(NODE)?.encode_with(name, ctx)?.ok(),
            Self::User { issuer, subject } => e.array(3)?.u8(USER)?.str(issuer)?.str(subject)?.ok(),
        }
    }
}

fn encode_values<C, W: Write>(
    e: &mut Encoder<W>,
    ctx: &mut C,
    tag: u8,
    key: &LabelKey,
    values: &BTreeSet<LabelValue>,
) -> Result<(), encode::Error<W::Error>> {
    e.array(3)?.u8(tag)?.encode_with(key, ctx)?.array(values.len() as u64)?;
    for value in values {
        e.encode_with(value, ctx)?;
    }
    Ok(())
}

impl<'b, C> Decode<'b, C> for Term {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        let parts = d.array()?;
        match (d.u8()?, parts) {
            (IN, Some(3)) => Ok(Self::In(d.decode()?, values(d)?)),
            (NOT_IN, Some(3)) => Ok(Self::NotIn(d.decode()?, values(d)?)),
            (EXISTS, Some(2)) => Ok(Self::Exists(d.decode()?)),
            (ABSENT, Some(2)) => Ok(Self::Absent(d.decode()?)),
            (NODE, Some(2)) => Ok(Self::Node(d.decode::<NodeName>()?)),
            (USER, Some(3)) => {
                let issuer = text(d, MAX_USER_BYTES)?.to_owned();
                let subject = text(d, MAX_USER_BYTES)?.to_owned();
                let fits = is_user_part(&issuer) && is_user_part(&subject);
                fits.then_some(Self::User { issuer, subject }).ok_or_else(|| Error::message("not a user"))
            }
            (_, _) => Err(Error::message("a kind of term that this version does not know")),
        }
    }
}

fn values(d: &mut Decoder<'_>) -> Result<BTreeSet<LabelValue>, Error> {
    let values: Vec<LabelValue> = list(d, MAX_VALUES, "more values than MAX_VALUES", |d| d.decode())?;
    if values.is_empty() || !values.is_sorted_by(|a, b| a < b) {
        return Err(Error::message("a list of values is empty or not in order"));
    }
    Ok(values.into_iter().collect())
}

/// An array of exactly `parts`: a part more could be a condition that we do not know.
pub(crate) fn array_of(d: &mut Decoder<'_>, parts: u64) -> Result<(), Error> {
    if d.array()? == Some(parts) { Ok(()) } else { Err(Error::message("an array has not its exact length")) }
}

/// Reads all of `bytes`: what stands behind the end could be a condition that we do not know.
pub(crate) fn exactly<'b, T>(
    bytes: &'b [u8],
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut d = Decoder::new(bytes);
    let value = read(&mut d)?;
    if d.position() == bytes.len() { Ok(value) } else { Err(Error::message("bytes after its end")) }
}

/// A list of definite length. Grows as elements are read, never by the length that the bytes claim.
pub(crate) fn list<'b, T>(
    d: &mut Decoder<'b>,
    limit: usize,
    too_many: &'static str,
    mut element: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = d.array()?.ok_or_else(|| Error::message("a list has no length"))?;
    if count > limit as u64 {
        return Err(Error::message(too_many));
    }
    (0..count).map(|_| element(d)).collect::<Result<Vec<_>, _>>()
}

fn text<'b>(d: &mut Decoder<'b>, limit: usize) -> Result<&'b str, Error> {
    let text = d.str()?;
    if text.len() > limit { Err(Error::message("a text is longer than its limit")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::{class::tests::rules, rule::tests::rule};

    fn refused(rules: &RuleSet) -> bool {
        minicbor::decode::<RuleSet>(&minicbor::to_vec(rules).unwrap()).is_err()
    }

    proptest! {
        #[test]
        fn decode_after_encode_is_the_same_set(rules in rules()) {
            let bytes = minicbor::to_vec(&rules).unwrap();
            prop_assert_eq!(minicbor::decode::<RuleSet>(&bytes).unwrap(), rules);
        }

        #[test]
        fn damaged_bytes_never_panic_and_truncated_ones_are_refused(
            rules in rules(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut bytes = minicbor::to_vec(&rules).unwrap();
            let at = at.index(bytes.len());
            prop_assert!(minicbor::decode::<RuleSet>(&bytes[..at]).is_err());
            bytes[at] = byte;
            let _ = minicbor::decode::<RuleSet>(&bytes);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = minicbor::decode::<RuleSet>(&bytes);
            let _ = crate::Bundle::read(&bytes);
            let _ = crate::slice::Slice::decode(&bytes);
        }
    }

    #[test]
    fn everyone_is_written_out_and_an_empty_list_is_nobody_s_selector() {
        assert_eq!(minicbor::to_vec(Selector::everyone()).unwrap(), [0x61, b'*']);
        assert!(minicbor::decode::<Selector>(&[0x80]).is_err());
        assert!(minicbor::decode::<Selector>(&[0x60]).is_err());
        assert!(minicbor::decode::<Selector>(&[0xf6]).is_err());
    }

    #[test]
    fn an_unknown_kind_of_term_is_refused() {
        // [[6, "a"]]
        assert!(minicbor::decode::<Selector>(&[0x81, 0x82, 0x06, 0x61, b'a']).is_err());
        assert!(minicbor::decode::<Selector>(&[0x81, 0x82, EXISTS, 0x61, b'a']).is_ok());
    }

    #[test]
    fn a_rule_with_a_part_more_is_refused() {
        let mut bytes = minicbor::to_vec(rule("r", "*", "*", "any")).unwrap();
        assert!(minicbor::decode::<Rule>(&bytes).is_ok());
        bytes[0] += 1;
        bytes.push(0xf6);
        assert!(minicbor::decode::<Rule>(&bytes).is_err());
    }

    #[test]
    fn ids_are_unique_ordered_and_plain() {
        let named = |id| rule(id, "*", "*", "any");
        let both = |allow, never| RuleSet { allow, never };
        assert!(!refused(&both(vec![named("a"), named("b")], vec![named("c")])));
        assert!(refused(&both(vec![named("b"), named("a")], vec![])));
        assert!(refused(&both(vec![named("a"), named("a")], vec![])));
        assert!(refused(&both(vec![named("a")], vec![named("a")])));
        assert!(refused(&both(vec![named("a\u{1b}[2J")], vec![])));
        assert!(refused(&both(vec![Rule { file: "a\nb".to_owned(), ..named("a") }], vec![])));
    }

    #[test]
    fn claimed_lengths_allocate_nothing() {
        // [[a list of 2^63 rules], …]
        let bytes = [0x82, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(minicbor::decode::<RuleSet>(&bytes).is_err());
    }
}
