//! Parameters in the query of a request.

use actix_web::HttpRequest;
use actix_web::web::Query;
use stentor::Namespace;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::Api;
use super::body::bad;

/// Default number of entries per page.
const PAGE: usize = 100;

impl Api {
    /// The namespace with this path, which must exist.
    pub(super) fn namespace(&self, path: &str) -> Result<Namespace, ErrorBody> {
        let unknown = || ErrorBody::new(ErrorCode::UnknownNamespace, format!("namespace {path:?} does not exist"));
        self.io.find(path).ok_or_else(unknown)
    }
}

/// Refuses a name in the path whose bytes are not UTF-8. The router has replaced such bytes.
pub(super) fn check_utf8(request: &HttpRequest, name: &str) -> Result<(), ErrorBody> {
    let has_replacement = || request.uri().path().to_ascii_uppercase().contains("%EF%BF%BD");
    if name.contains('\u{fffd}') && !has_replacement() {
        return Err(bad("path: expected names in UTF-8, percent-encoded"));
    }
    Ok(())
}

/// The namespace and the page that a request asks for.
pub(super) struct ListQuery {
    pub(super) namespace: Namespace,
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

impl ListQuery {
    pub(super) fn read(api: &Api, query: &str) -> Result<Self, ErrorBody> {
        Self::of(api, query, "namespace, after, limit")
    }

    /// Reads a query whose only parameter is the namespace.
    pub(super) fn namespace(api: &Api, query: &str) -> Result<Namespace, ErrorBody> {
        Self::of(api, query, "namespace").map(|query| query.namespace)
    }

    /// `names` are those of the parameters that the resource has.
    fn of(api: &Api, query: &str, names: &str) -> Result<Self, ErrorBody> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query).map_err(|error| bad(error.to_string()))?;
        let (mut namespace, mut after, mut limit) = (String::from("/"), None, PAGE);
        let most = api.settings.get().limits.page_entries_max;
        for (name, value) in pairs.into_inner() {
            if !names.split(", ").any(|known| known == name) {
                return Err(bad(format!("unknown parameter {name:?}, expected {names}")));
            }
            match name.as_str() {
                "namespace" => namespace = value,
                "after" => after = Some(value),
                _ => match value.parse() {
                    Ok(number) if (1..=most).contains(&number) => limit = number,
                    _ => return Err(bad(format!("limit={value:?}: expected a number from 1 to {most}"))),
                },
            }
        }
        Ok(Self { namespace: api.namespace(&namespace)?, after, limit: limit.min(most) })
    }

    /// Returns one page of `entries`, which must be sorted by `name`, and the value of `after` for
    /// the next page.
    pub(super) fn page<T>(&self, mut entries: Vec<T>, name: impl Fn(&T) -> &String) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            entries.drain(..entries.partition_point(|entry| name(entry) <= after));
        }
        let is_last = entries.len() <= self.limit;
        entries.truncate(self.limit);
        let next = entries.last().filter(|_| !is_last).map(|entry| name(entry).clone());
        (entries, next)
    }
}
