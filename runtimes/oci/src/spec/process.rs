//! A container's first process: what it runs, with which environment, and where.

use std::path::PathBuf;

use oci_spec::{
    image::{Config, ImageConfiguration},
    runtime::{Capabilities, Process, User},
};
use runtimes::{ContainerSpec, RuntimeError};

use super::capabilities;
use crate::user::Identity;

/// Where programs are looked for if the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first process. `HOME` is left to runc, which finds the user's.
pub(super) fn of(
    spec: &ContainerSpec,
    image: &ImageConfiguration,
    identity: &Identity,
    held: Capabilities,
) -> Result<Process, RuntimeError> {
    let usual = Config::default();
    let image = image.config().as_ref().unwrap_or(&usual);
    let mut user = User::default();
    user.set_uid(identity.uid)
        .set_gid(identity.gid)
        .set_additional_gids(Some(identity.groups.clone()));
    let mut process = Process::default();
    process
        .set_user(user)
        .set_args(Some(args(spec, image)?))
        .set_env(Some(env(spec, image)))
        .set_cwd(working_dir(spec, image)?)
        .set_terminal(Some(spec.tty))
        .set_capabilities(Some(capabilities::sets(held)))
        .set_rlimits(None)
        .set_no_new_privileges(Some(spec.security.no_new_privileges))
        .set_oom_score_adj(Some(spec.oom_score_adj));
    Ok(process)
}

/// A process beside a container's first one, `first`.
pub(crate) fn beside(first: &Process, command: Vec<String>, tty: bool) -> Process {
    let mut process = first.clone();
    let mut env: Vec<_> = first.env().iter().flatten().cloned().collect();
    if tty {
        set_terminal(&mut env);
    }
    process
        .set_args(Some(command))
        .set_env(Some(env))
        .set_terminal(Some(tty));
    process
}

/// The pod's command replaces the image's entry point and its arguments; the pod's arguments replace the image's.
fn args(spec: &ContainerSpec, image: &Config) -> Result<Vec<String>, RuntimeError> {
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (command, args) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (spec.command.clone(), spec.args.clone()),
        (true, false) => (of_image(image.entrypoint()), spec.args.clone()),
        (true, true) => (of_image(image.entrypoint()), of_image(image.cmd())),
    };
    // An entry point that is one empty word is how images are made to have none.
    let none = spec.command.is_empty() && command.len() == 1 && command[0].is_empty();
    let all: Vec<_> = command
        .into_iter()
        .skip(usize::from(none))
        .chain(args)
        .collect();
    if all.is_empty() {
        return Err(RuntimeError::Invalid("no command specified".to_owned()));
    }
    Ok(all)
}

/// The image's first, then the pod's, which replace those of the same name.
fn env(spec: &ContainerSpec, image: &Config) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let images = image.env().iter().flatten();
    let images = images.map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    if !images.clone().any(|(name, _)| name == "PATH") {
        set(&mut env, "PATH", PATH);
    }
    set(&mut env, "HOSTNAME", &spec.hostname);
    for (name, value) in images {
        set(&mut env, name, value);
    }
    if spec.tty {
        set_terminal(&mut env);
    }
    for (name, value) in &spec.env {
        set(&mut env, name, value);
    }
    env
}

fn set_terminal(env: &mut Vec<String>) {
    if !env.iter().any(|entry| entry.starts_with("TERM=")) {
        set(env, "TERM", "xterm");
    }
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let is_same = |entry: &&mut String| {
        let rest = entry.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('='))
    };
    let entry = format!("{name}={value}");
    match env.iter_mut().find(is_same) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn working_dir(spec: &ContainerSpec, image: &Config) -> Result<PathBuf, RuntimeError> {
    let of_pod = spec.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let of_image = image.working_dir().as_deref().filter(|dir| !dir.is_empty());
    let dir = PathBuf::from(of_pod.or(of_image).unwrap_or("/"));
    if !dir.is_absolute() {
        return Err(RuntimeError::Invalid(format!(
            "the working directory {:?} must be an absolute path",
            dir.display().to_string()
        )));
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::tests::{image, plain};

    /// What runs, with the image's and the pod's part of it.
    #[track_caller]
    fn runs(entrypoint: Value, cmd: Value, command: &[&str], arguments: &[&str], want: Expect) {
        let image = image(json!({"Entrypoint": entrypoint, "Cmd": cmd}));
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let spec = ContainerSpec {
            command: owned(command),
            args: owned(arguments),
            ..plain()
        };
        let config = image.config().clone().unwrap();
        want.assert_eq(&match args(&spec, &config) {
            Ok(args) => format!("{args:?}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn the_pods_command_replaces_the_images_entry_point_and_arguments() {
        runs(
            json!(["/e"]),
            json!(["c"]),
            &[],
            &[],
            expect![[r#"["/e", "c"]"#]],
        );
        runs(
            json!(["/e"]),
            json!(["c"]),
            &[],
            &["a"],
            expect![[r#"["/e", "a"]"#]],
        );
        runs(
            json!(["/e"]),
            json!(["c"]),
            &["/k"],
            &[],
            expect![[r#"["/k"]"#]],
        );
        runs(
            json!(["/e"]),
            json!(["c"]),
            &["/k"],
            &["a", ""],
            expect![[r#"["/k", "a", ""]"#]],
        );
        runs(
            json!(null),
            json!(["c", "d"]),
            &[],
            &[],
            expect![[r#"["c", "d"]"#]],
        );
        runs(json!([""]), json!(["c"]), &[], &[], expect![[r#"["c"]"#]]);
        runs(json!(null), json!(null), &[], &["a"], expect![[r#"["a"]"#]]);
        runs(
            json!(null),
            json!(null),
            &[],
            &[],
            expect!["no command specified"],
        );
        runs(
            json!([""]),
            json!(null),
            &[],
            &[],
            expect!["no command specified"],
        );
    }

    #[track_caller]
    fn has_env(images: Value, pods: &[(&str, &str)], tty: bool, want: Expect) {
        let image = image(json!({"Env": images}));
        let pods = pods
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let spec = ContainerSpec {
            env: pods.collect(),
            tty,
            ..plain()
        };
        want.assert_eq(&env(&spec, &image.config().clone().unwrap()).join("\n"));
    }

    #[test]
    fn the_pods_environment_comes_over_the_images() {
        has_env(
            json!(null),
            &[],
            false,
            expect![[r#"
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
            HOSTNAME=p"#]],
        );
        has_env(
            json!(["PATH=/opt", "A=1", "B", "A=2=3", "AB=4"]),
            &[("B", "pod"), ("HOSTNAME", "mine"), ("PATH_", "")],
            true,
            expect![[r#"
                HOSTNAME=mine
                PATH=/opt
                A=2=3
                B=pod
                AB=4
                TERM=xterm
                PATH_="#]],
        );
        has_env(
            json!(["PATH=/", "TERM=vt100"]),
            &[],
            true,
            expect![[r#"
            HOSTNAME=p
            PATH=/
            TERM=vt100"#]],
        );
    }

    #[test]
    fn the_pods_directory_comes_before_the_images() {
        let at = |images: Value, pods: Option<&str>| {
            let image = image(json!({"WorkingDir": images}));
            let spec = ContainerSpec {
                working_dir: pods.map(str::to_owned),
                ..plain()
            };
            match working_dir(&spec, &image.config().clone().unwrap()) {
                Ok(dir) => dir.display().to_string(),
                Err(error) => error.to_string(),
            }
        };
        expect!["/"].assert_eq(&at(json!(null), None));
        expect!["/srv"].assert_eq(&at(json!("/srv"), Some("")));
        expect!["/tmp"].assert_eq(&at(json!("/srv"), Some("/tmp")));
        expect![[r#"the working directory "srv" must be an absolute path"#]]
            .assert_eq(&at(json!("srv"), None));
    }
}
