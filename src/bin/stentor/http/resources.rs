//! The table of the API's resources: path, methods, and the scope that each method needs.

use std::fmt;

use actix_web::http::Method;
use actix_web::{HttpResponse, Route, web};

use super::clients::{self, Operation, Target};
use super::keys::Scope::{self, Admin, Publish, Read, Subscribe};
use super::{publish, reload, rooms, subscribers};

pub(super) struct Resource {
    /// Path below `/api`, as actix-web takes it.
    pub(super) path: &'static str,
    /// Methods, each with the scope that a key needs for it.
    pub(super) methods: &'static [(Method, Scope)],
    pub(super) route: fn() -> Route,
}

impl Resource {
    /// Value of the header `Allow`.
    pub(super) fn allow(&self) -> String {
        self.methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whole path with parameters in braces, without their patterns.
    fn full_path(&self) -> String {
        format!("/api{}", self.path.replace(":.+", ""))
    }
}

/// Methods and path, such as `GET /api/v1/rooms/<room>`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.allow().replace(", ", "|"), self.full_path().replace('{', "<").replace('}', ">"))
    }
}

/// All resources of the API. A path that is more specific precedes one that also matches it.
#[rustfmt::skip]
pub(super) static RESOURCES: &[Resource] = &[
    Resource { path: "/v1/openapi.json", methods: &[(Method::GET, Read)], route: || web::to(openapi) },
    Resource { path: "/v1/publish", methods: &[(Method::POST, Publish)], route: || web::to(publish::one) },
    Resource { path: "/v1/publish/batch", methods: &[(Method::POST, Publish)], route: || web::to(publish::batch) },
    Resource { path: "/v1/reload", methods: &[(Method::POST, Admin)], route: || web::to(reload::reload) },
    Resource { path: "/v1/rooms", methods: &[(Method::GET, Read)], route: || web::to(rooms::list) },
    Resource { path: "/v1/rooms/{room:.+}", methods: &[(Method::GET, Read)], route: || web::to(rooms::members) },
    Resource { path: "/v1/users/{user}", methods: &[(Method::GET, Read)], route: || web::to(clients::user) },
    Resource { path: "/v1/users/{user}/publish", methods: &[(Method::POST, Publish)], route: || clients::operation(Target::user, Operation::Publish) },
    Resource { path: "/v1/users/{user}/join", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::user, Operation::Join) },
    Resource { path: "/v1/users/{user}/leave", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::user, Operation::Leave) },
    Resource { path: "/v1/users/{user}/disconnect", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::user, Operation::Disconnect) },
    Resource { path: "/v1/sockets/{socket}", methods: &[(Method::GET, Read)], route: || web::to(clients::socket) },
    Resource { path: "/v1/sockets/{socket}/publish", methods: &[(Method::POST, Publish)], route: || clients::operation(Target::socket, Operation::Publish) },
    Resource { path: "/v1/sockets/{socket}/join", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::socket, Operation::Join) },
    Resource { path: "/v1/sockets/{socket}/leave", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::socket, Operation::Leave) },
    Resource { path: "/v1/sockets/{socket}/disconnect", methods: &[(Method::POST, Admin)], route: || clients::operation(Target::socket, Operation::Disconnect) },
    Resource { path: "/v1/subscribers", methods: &[(Method::GET, Read)], route: || web::to(subscribers::list) },
    Resource {
        path: "/v1/subscribers/{name}",
        methods: &[(Method::GET, Read), (Method::PUT, Subscribe), (Method::DELETE, Admin)],
        route: || web::to(subscribers::one),
    },
    Resource { path: "/v1/subscribers/{name}/rooms/{room:.+}", methods: &[(Method::DELETE, Subscribe)], route: || web::to(subscribers::room) },
    Resource { path: "/v1/subscribers/{name}/dead", methods: &[(Method::GET, Read)], route: || web::to(subscribers::dead) },
    Resource { path: "/v1/subscribers/{name}/dead/replay", methods: &[(Method::POST, Admin)], route: || web::to(subscribers::replay) },
    Resource { path: "/v1/subscribers/{name}/pull", methods: &[(Method::POST, Subscribe)], route: || subscribers::operation(subscribers::read_pull) },
    Resource { path: "/v1/subscribers/{name}/ack", methods: &[(Method::POST, Subscribe)], route: || subscribers::operation(subscribers::read_ack) },
    Resource { path: "/v1/subscribers/{name}/nak", methods: &[(Method::POST, Subscribe)], route: || subscribers::operation(subscribers::read_nak) },
    Resource { path: "/v1/subscribers/{name}/term", methods: &[(Method::POST, Subscribe)], route: || subscribers::operation(subscribers::read_term) },
    Resource { path: "/v1/subscribers/{name}/in_progress", methods: &[(Method::POST, Subscribe)], route: || subscribers::operation(subscribers::read_in_progress) },
    Resource { path: "/v1/subscribers/{name}/purge", methods: &[(Method::POST, Admin)], route: || subscribers::operation(subscribers::read_purge) },
];

/// Handles `GET /api/v1/openapi.json`.
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(include_str!("../../../../docs/openapi.json"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    /// Methods and scopes by path.
    type Paths = BTreeMap<String, BTreeSet<(String, String)>>;

    fn described() -> Paths {
        let file: Value = serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
        let of_path = |methods: &Value| {
            let scope = |operation: &Value| operation["x-scope"].as_str().unwrap_or_default().to_owned();
            let methods = methods.as_object().unwrap().iter();
            methods.map(|(method, operation)| (method.to_uppercase(), scope(operation))).collect()
        };
        file["paths"].as_object().unwrap().iter().map(|(path, methods)| (path.clone(), of_path(methods))).collect()
    }

    #[test]
    fn the_description_and_the_server_have_the_same_resources() {
        let mut served: Paths = BTreeMap::new();
        for resource in RESOURCES {
            let methods = resource.methods.iter().map(|(method, scope)| (method.to_string(), scope.name().to_owned()));
            served.insert(resource.full_path(), methods.collect());
        }
        for open in ["/healthz", "/readyz", "/metrics"] {
            served.insert(open.to_owned(), [("GET".to_owned(), String::new())].into());
        }
        assert_eq!(described(), served);
    }
}
