//! Typed reading of TOML tables that reports what does not fit and goes on.
//!
//! Nothing is skipped silently: a key that nobody asked for is an error, because a misspelt condition that
//! was ignored would widen a rule.

use bulkhead_identity::Timestamp;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
    value::{Datetime, Offset},
};

use crate::{
    Code,
    place::{Findings, Located, Place},
    slips,
};

/// A value with its span, as the parser gives it.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// One table of one file.
#[derive(Clone, Copy)]
pub(crate) struct Table<'t> {
    entries: &'t DeTable<'t>,
    file: usize,
    /// What it is, for messages: `allow rule`.
    what: &'static str,
}

/// A table and its place.
pub(crate) type LocatedTable<'t> = Located<Table<'t>>;

impl<'t> Table<'t> {
    pub(crate) fn new(entries: &'t DeTable<'t>, file: usize, what: &'static str) -> Self {
        Self { entries, file, what }
    }

    /// The table that `value` is, or an error.
    pub(crate) fn from_value(
        value: &'t Value<'t>,
        file: usize,
        what: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<LocatedTable<'t>> {
        let place = place(file, value);
        match value.get_ref().as_table() {
            Some(entries) => Some(Located { value: Self { entries, file, what }, place }),
            None => wrong_type(findings, &place, what, "a table", value, None),
        }
    }

    /// All entries: key with its place, and value.
    pub(crate) fn entries(self) -> impl Iterator<Item = (Located<String>, &'t Value<'t>)> {
        self.entries.iter().map(move |(key, value)| {
            let place = Place { file: self.file, span: key.span() };
            (Located { value: key.get_ref().clone().into_owned(), place }, value)
        })
    }

    /// Reports every key that is not in `known`.
    pub(crate) fn refuse_others(self, known: &[&str], findings: &mut Findings<'_>) {
        for (key, _) in self.entries() {
            if !known.contains(&key.value.as_str()) {
                let help = slips::key(self.what, &key.value)
                    .or_else(|| findings.did_you_mean(&key.value, known.iter().copied()))
                    .unwrap_or_else(|| format!("known are {}", known.join(", ")));
                let message = format!("{} has no key {:?}", self.what, key.value);
                findings.error_with_help(Code::UnknownKey, &key.place, message, Some(help));
            }
        }
    }

    /// The place of one of its values.
    pub(crate) fn place_of(self, value: &Value<'_>) -> Place {
        place(self.file, value)
    }

    pub(crate) fn get(self, key: &str) -> Option<&'t Value<'t>> {
        self.entries.get(key)
    }

    /// The value of `key`; missing is an error at the table's own place.
    pub(crate) fn required(
        self,
        key: &str,
        own_place: &Place,
        findings: &mut Findings<'_>,
    ) -> Option<&'t Value<'t>> {
        let value = self.get(key);
        if value.is_none() {
            findings.error(Code::MissingKey, own_place, format!("{} needs {key:?}", self.what));
        }
        value
    }

    /// The tables of the array of tables `key`, each named `what`.
    pub(crate) fn tables(
        self,
        key: &str,
        what: &'static str,
        findings: &mut Findings<'_>,
    ) -> Vec<LocatedTable<'t>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        match value.get_ref().as_array() {
            Some(array) => {
                let tables = array.iter().map(|value| Self::from_value(value, self.file, what, findings));
                tables.collect::<Vec<_>>().into_iter().flatten().collect()
            }
            None => {
                let message = format!("write [[{key}]], once for each {what}");
                findings.error(Code::WrongType, &place(self.file, value), message);
                Vec::new()
            }
        }
    }

    /// The text at `key`, if it is there.
    pub(crate) fn text(self, key: &str, findings: &mut Findings<'_>) -> Option<Located<String>> {
        self.get(key).and_then(|value| text(self.file, value, key, findings))
    }

    /// The list of texts at `key`, if it is there. An empty list is an error: it would mean nothing, or all.
    pub(crate) fn texts(
        self,
        key: &str,
        limit: (&'static str, usize),
        findings: &mut Findings<'_>,
    ) -> Option<Vec<Located<String>>> {
        self.get(key).and_then(|value| texts(self.file, value, key, limit, findings))
    }

    /// The moment at `key`, if it is there: a date and time with its zone.
    pub(crate) fn moment(self, key: &str, findings: &mut Findings<'_>) -> Option<Located<Timestamp>> {
        self.date_time(key, findings, |datetime| match datetime {
            Datetime { time: Some(time), .. } if time.nanosecond.is_some_and(|part| part > 0) => {
                Err("is in whole seconds")
            }
            Datetime { date: Some(_), time: Some(_), offset: Some(_) } => Ok(()),
            Datetime { .. } => Err("needs date, time and zone, for example 2026-12-31T18:00:00Z"),
        })
    }

    /// The day at `key`, if it is there: its first moment in UTC.
    pub(crate) fn day(self, key: &str, findings: &mut Findings<'_>) -> Option<Located<Timestamp>> {
        self.date_time(key, findings, |datetime| match datetime {
            Datetime { date: Some(_), time: None, offset: None } => Ok(()),
            Datetime { .. } => Err("is a day, for example 2027-06-30"),
        })
    }

    fn date_time(
        self,
        key: &str,
        findings: &mut Findings<'_>,
        fits: fn(&Datetime) -> Result<(), &'static str>,
    ) -> Option<Located<Timestamp>> {
        let value = self.get(key)?;
        let place = place(self.file, value);
        let Some(datetime) = value.get_ref().as_datetime() else {
            let help = slips::time(key, value.get_ref());
            return wrong_type(findings, &place, key, "a time without quotes", value, help);
        };
        match fits(datetime)
            .and_then(|()| timestamp(datetime).ok_or("is not between the years 1970 and 9999"))
        {
            Ok(value) => Some(Located { value, place }),
            Err(why) => {
                findings.error(Code::Time, &place, format!("{key} {why}"));
                None
            }
        }
    }
}

/// The place of a value.
pub(crate) fn place(file: usize, value: &Value<'_>) -> Place {
    Place { file, span: value.span() }
}

/// `value` as text, or an error.
pub(crate) fn text(
    file: usize,
    value: &Value<'_>,
    what: &str,
    findings: &mut Findings<'_>,
) -> Option<Located<String>> {
    let place = place(file, value);
    match value.get_ref().as_str() {
        Some(text) => Some(Located { value: text.to_owned(), place }),
        None => {
            let help = slips::one_text(what, value.get_ref());
            wrong_type(findings, &place, what, "text in quotes", value, help)
        }
    }
}

/// `value` as a list of texts with at least one element and no more than the limit, or an error.
pub(crate) fn texts(
    file: usize,
    value: &Value<'_>,
    what: &str,
    (limit_name, limit): (&'static str, usize),
    findings: &mut Findings<'_>,
) -> Option<Vec<Located<String>>> {
    let place = place(file, value);
    let Some(array) = value.get_ref().as_array() else {
        let help = slips::list(what, value.get_ref());
        return wrong_type(findings, &place, what, "a list of texts", value, help);
    };
    if array.is_empty() {
        findings.error(Code::Empty, &place, format!("{what} is empty; leave the key out or fill the list"));
        return None;
    }
    if array.len() > limit {
        let message = format!("{what} has {} elements, more than {limit} ({limit_name})", array.len());
        findings.error(Code::Limit, &place, message);
        return None;
    }
    Some(array.iter().filter_map(|element| text(file, element, what, findings)).collect())
}

/// Reports a value of the wrong type.
pub(crate) fn wrong_type<T>(
    findings: &mut Findings<'_>,
    place: &Place,
    what: &str,
    wanted: &str,
    value: &Value<'_>,
    help: Option<String>,
) -> Option<T> {
    let found = value.get_ref().type_str();
    let message = format!("{what} must be {wanted}, found {found}");
    findings.error_with_help(Code::WrongType, place, message, help);
    None
}

fn timestamp(datetime: &Datetime) -> Option<Timestamp> {
    let date = datetime.date?;
    let minutes = match datetime.offset {
        Some(Offset::Custom { minutes }) => i32::from(minutes),
        Some(Offset::Z) | None => 0,
    };
    let (hour, minute, second) =
        datetime.time.map_or((0, 0, 0), |time| (time.hour, time.minute, time.second.unwrap_or_default()));
    let small = |number: u8| i8::try_from(number).ok();
    // A leap second counts as the second before it, as it does in Unix time.
    let civil = jiff::civil::DateTime::new(
        i16::try_from(date.year).ok()?,
        small(date.month)?,
        small(date.day)?,
        small(hour)?,
        small(minute)?,
        small(second.min(59))?,
        0,
    );
    let offset = jiff::tz::Offset::from_seconds(minutes.checked_mul(60)?).ok()?;
    let at = offset.to_timestamp(civil.ok()?).ok()?;
    u64::try_from(at.as_second()).ok().map(Timestamp)
}
