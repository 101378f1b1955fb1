//! `Impersonate-User` and its fellows: a request in the name of somebody else, for those who may.
//!
//! Each part of the other identity is asked for by itself, with the verb `impersonate` on `users`,
//! `groups`, `serviceaccounts`, `uids` or `userextras/<key>`.

use http::HeaderMap;

use super::{
    AUTHENTICATED, Attributes, User, authorizer::Resource, authorizers::Authorizer, service_account,
};
use crate::error::{Denial, Error};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user as whom a request is answered. Takes the headers that say so out of it.
pub(crate) fn apply(
    authorizer: &Authorizer,
    user: User,
    headers: &mut HeaderMap,
) -> Result<User, Error> {
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Ok(user);
    }
    let wanted = read(headers)?;
    authorize(authorizer, &user, &wanted)?;
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
    tracing::debug!(
        user = user.name,
        impersonated = wanted.name,
        "impersonation"
    );
    Ok(completed(wanted))
}

/// What the headers say.
fn read(headers: &HeaderMap) -> Result<User, Error> {
    let mut user = User::default();
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with("impersonate-") {
            continue;
        }
        let value = value
            .to_str()
            .map_err(|_| Error::BadRequest(format!("the header {name} is not text")))?
            .to_owned();
        match name {
            USER => user.name = value,
            UID => user.uid = value,
            GROUP => user.groups.push(value),
            _ => {
                let Some(key) = name.strip_prefix(EXTRA) else {
                    return Err(Error::BadRequest(format!("unknown header {name}")));
                };
                let key = crate::server::path::decode_percent_all(key).ok_or_else(|| {
                    Error::BadRequest(format!("the header {name} is not percent-encoded text"))
                })?;
                user.extra.entry(key).or_default().push(value);
            }
        }
    }
    if user.name.is_empty() {
        return Err(Error::BadRequest(
            "requested impersonation of a group, uid or extra without impersonating a user"
                .to_owned(),
        ));
    }
    Ok(user)
}

fn authorize(authorizer: &Authorizer, user: &User, wanted: &User) -> Result<(), Error> {
    let check = |resource: Resource<'_>| -> Result<(), Error> {
        let asked = Attributes::resource("impersonate", resource);
        let decision = authorizer.decide(user, &asked);
        if decision.allowed {
            return Ok(());
        }
        Err(Denial::of(&asked, user, &decision).into())
    };
    match service_account::parse_user_name(&wanted.name) {
        Some((namespace, name)) => check(Resource {
            resource: "serviceaccounts",
            namespace,
            name,
            ..Resource::default()
        })?,
        None => check(Resource {
            resource: "users",
            name: &wanted.name,
            ..Resource::default()
        })?,
    }
    if !wanted.uid.is_empty() {
        check(Resource {
            group: AUTHENTICATION,
            resource: "uids",
            name: &wanted.uid,
            ..Resource::default()
        })?;
    }
    for group in &wanted.groups {
        check(Resource {
            resource: "groups",
            name: group,
            ..Resource::default()
        })?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(Resource {
                group: AUTHENTICATION,
                resource: "userextras",
                subresource: key,
                name: value,
                ..Resource::default()
            })?;
        }
    }
    Ok(())
}

/// The groups that everyone of this name has.
fn completed(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = service_account::parse_user_name(&user.name)
    {
        user.groups = service_account::groups(namespace).to_vec();
    }
    if user.name == "system:anonymous" {
        return user.within("system:unauthenticated");
    }
    user.within(AUTHENTICATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn headers_say_who() {
        let all = [
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ];
        let user = read(&headers(&all)).expect("a user");
        assert_eq!(user.name, "jane");
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.uid, "7");
        assert_eq!(user.extra["acme.com/project"], ["x"]);
        assert_eq!(completed(user).groups, ["dev", "ops", AUTHENTICATED]);
    }

    #[test]
    fn a_service_account_has_its_groups() {
        let user = User::new("system:serviceaccount:a:b", &[]);
        assert_eq!(
            completed(user).groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:a",
                AUTHENTICATED
            ]
        );
    }

    #[test]
    fn a_group_alone_is_nobody() {
        assert!(read(&headers(&[("impersonate-group", "dev")])).is_err());
        assert!(
            read(&headers(&[
                ("impersonate-user", "a"),
                ("impersonate-x", "b")
            ]))
            .is_err()
        );
        assert!(
            read(&headers(&[
                ("impersonate-user", "a"),
                ("impersonate-extra-%zz", "b")
            ]))
            .is_err()
        );
    }
}
