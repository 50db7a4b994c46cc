//! Bodies of requests: how they are read, and the fields of JSON objects, one by one.

use std::collections::BTreeMap;

use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use stentor::{Args, BodyError, FromArgs, RequestBody};

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::Api;

impl From<BodyError> for ErrorBody {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge(_) => ErrorCode::TooLarge,
            BodyError::Timeout(_) => ErrorCode::TooSlow,
            BodyError::Overloaded(_) => ErrorCode::Overloaded,
            _ => ErrorCode::BadRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl Api {
    /// Reads the JSON body of a request.
    pub(super) async fn read_json(&self, request: &HttpRequest, payload: Payload) -> Result<RequestBody, ErrorBody> {
        check_json(request)?;
        self.read_body(request, payload).await
    }

    /// Reads the JSON body of a request, or an empty body of any type.
    pub(super) async fn read_optional(
        &self,
        request: &HttpRequest,
        payload: Payload,
    ) -> Result<RequestBody, ErrorBody> {
        let body = self.read_body(request, payload).await?;
        if !body.is_empty() {
            check_json(request)?;
        }
        Ok(body)
    }

    async fn read_body(&self, request: &HttpRequest, payload: Payload) -> Result<RequestBody, ErrorBody> {
        Ok(self.io.read_body(request, payload, self.settings.get().limits.body_bytes_max).await?)
    }
}

fn check_json(request: &HttpRequest) -> Result<(), ErrorBody> {
    if request.content_type().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("expected Content-Type: application/json, got {:?}", request.content_type());
    Err(ErrorBody::new(ErrorCode::UnsupportedMediaType, message))
}

pub(super) fn text(body: &[u8]) -> Result<&str, ErrorBody> {
    std::str::from_utf8(body).map_err(|_| bad("body is not UTF-8"))
}

/// Fields of an object that have not been read.
pub(super) struct Fields<'a> {
    fields: BTreeMap<String, &'a RawValue>,
    /// Names of all fields, for errors.
    names: &'static str,
}

impl<'a> Fields<'a> {
    /// Parses an object with fields of these names, which are separated by `, `.
    pub(super) fn read(text: &'a str, names: &'static str) -> Result<Self, ErrorBody> {
        let fields =
            serde_json::from_str(text).map_err(|error| bad(format!("expected an object of {names}: {error}")))?;
        Ok(Self { fields, names })
    }

    /// Removes and parses a field. A `null` field counts as missing.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<Option<T>, ErrorBody> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        Option::from_args(Args::from_elements([value.get().to_owned()]))
            .map_err(|_| bad(format!("{name}: expected {expected}, got {}", excerpt(value.get()))))
    }

    /// Removes the field `namespace`, whose default is `/`.
    pub(super) fn take_namespace(&mut self) -> Result<String, ErrorBody> {
        let namespace: Option<String> = self.take("namespace", "a string such as \"/\"")?;
        Ok(namespace.unwrap_or_else(|| "/".into()))
    }

    /// Removes a field without parsing it. A `null` field counts as missing.
    pub(super) fn take_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.fields.remove(name).filter(|value| value.get() != "null")
    }

    /// Refuses an object that has further fields.
    pub(super) fn end(self) -> Result<(), ErrorBody> {
        match self.fields.keys().next() {
            Some(unknown) => Err(bad(format!("unknown field {unknown:?}, expected {}", self.names))),
            None => Ok(()),
        }
    }
}

/// Start of a value, to be quoted in an error message.
pub(super) fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(40).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

pub(super) fn bad(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, message)
}
