//! `repositories.yaml`: the repositories that a user has named, in Helm's own file.
//!
//! Fields that are not known here are kept as they are.

use serde_json::{Value, json};

use super::{Error, Login, index::Repository};
use crate::{values, yaml};

/// The file.
#[derive(Clone, PartialEq, Debug)]
pub struct Repositories(Value);

impl Default for Repositories {
    fn default() -> Repositories {
        Repositories(json!({
            "apiVersion": "",
            "generated": "0001-01-01T00:00:00Z",
            "repositories": [],
        }))
    }
}

impl Repositories {
    /// Reads the file's text.
    pub fn parse(text: &[u8]) -> Result<Repositories, Error> {
        let wrong = |why: String| Error::Invalid(format!("repositories.yaml: {why}"));
        let file = yaml::parse(text).map_err(|why| wrong(why.to_string()))?;
        let mut file = values::to_json(&file);
        if file.is_null() {
            return Ok(Repositories::default());
        }
        if !file.is_object() {
            return Err(wrong("it is no map".to_owned()));
        }
        match &mut file["repositories"] {
            list @ Value::Null => *list = json!([]),
            Value::Array(entries) if entries.iter().all(Value::is_object) => {}
            _ => return Err(wrong("repositories is no list of maps".to_owned())),
        }
        Ok(Repositories(file))
    }

    /// The file's text.
    pub fn text(&self) -> String {
        format!("{}\n", yaml::emit(&values::from_json(&self.0)))
    }

    fn entries(&self) -> impl Iterator<Item = &Value> {
        self.0["repositories"].as_array().into_iter().flatten()
    }

    /// Names and addresses, in the order of the file.
    pub fn list(&self) -> Vec<(&str, &str)> {
        let text = |entry: &'_ Value, field: &str| entry[field].as_str().map(str::len);
        self.entries()
            .filter(|entry| text(entry, "name").is_some())
            .map(|entry| {
                (
                    entry["name"].as_str().unwrap_or_default(),
                    entry["url"].as_str().unwrap_or_default(),
                )
            })
            .collect()
    }

    /// The repository of that name; an error if it needs what is not done here.
    pub fn find(&self, name: &str) -> Result<Repository, Error> {
        let entry = self
            .entries()
            .find(|entry| entry["name"] == name)
            .ok_or_else(|| Error::NotFound(format!("repo {name} not found")))?;
        repository(name, entry)
    }

    /// The repository at that address, with its name.
    pub fn at(&self, url: &str) -> Option<(String, Repository)> {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        let entry = self
            .entries()
            .find(|entry| entry["url"].as_str().map(plain) == Some(plain(url)))?;
        let name = entry["name"].as_str()?;
        Some((name.to_owned(), repository(name, entry).ok()?))
    }

    /// Adds a repository, or takes the place of the one of its name.
    pub fn put(&mut self, name: &str, repository: &Repository) {
        let login = repository.login.as_ref();
        let entry = json!({
            "caFile": "",
            "certFile": "",
            "insecure_skip_tls_verify": false,
            "keyFile": "",
            "name": name,
            "pass_credentials_all": repository.pass_everywhere,
            "password": login.map_or("", |login| &login.password),
            "url": repository.url,
            "username": login.map_or("", |login| &login.name),
        });
        if let Value::Array(entries) = &mut self.0["repositories"] {
            match entries.iter_mut().find(|entry| entry["name"] == name) {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
        }
    }

    /// Takes a repository out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Value::Array(entries) = &mut self.0["repositories"] else {
            return false;
        };
        let before = entries.len();
        entries.retain(|entry| entry["name"] != name);
        entries.len() < before
    }
}

fn repository(name: &str, entry: &Value) -> Result<Repository, Error> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    for field in ["caFile", "certFile", "keyFile"] {
        if !text(field).is_empty() {
            return Err(Error::Invalid(format!(
                "repo {name}: {field} is not supported: trust the authority on this machine instead"
            )));
        }
    }
    if entry["insecure_skip_tls_verify"] == true {
        return Err(Error::Invalid(format!(
            "repo {name}: insecure_skip_tls_verify is not supported: certificates are always checked"
        )));
    }
    let login = Login {
        name: text("username"),
        password: text("password"),
    };
    Ok(Repository {
        url: text("url"),
        login: Some(login).filter(|login| !login.name.is_empty()),
        pass_everywhere: entry["pass_credentials_all"] == true,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_file_is_helms_and_keeps_what_is_not_known() {
        let text = "apiVersion: \"\"\nrepositories:\n- name: old\n  url: https://old/\n  future: 1\n- name: tls\n  url: https://t\n  caFile: /ca.pem\n";
        let mut file = Repositories::parse(text.as_bytes()).unwrap();
        let login = Login {
            name: "u".to_owned(),
            password: "p".to_owned(),
        };
        let new = Repository {
            url: "https://new".to_owned(),
            login: Some(login),
            pass_everywhere: false,
        };
        file.put("new", &new);
        assert!(file.remove("old") && !file.remove("old"));
        assert!(file.find("new").unwrap() == new);
        assert_eq!(file.at("https://new/").unwrap().0, "new");
        assert!(
            file.find("tls")
                .is_err_and(|e| e.to_string().contains("caFile"))
        );
        expect![[r#"
            apiVersion: ""
            repositories:
            - caFile: /ca.pem
              name: tls
              url: https://t
            - caFile: ""
              certFile: ""
              insecure_skip_tls_verify: false
              keyFile: ""
              name: new
              pass_credentials_all: false
              password: p
              url: https://new
              username: u
        "#]]
        .assert_eq(&file.text());
        assert_eq!(Repositories::parse(b"").unwrap(), Repositories::default());
    }
}
