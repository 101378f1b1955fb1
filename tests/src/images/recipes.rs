//! What is in each image.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    layer::{Layer, Owner},
    packages::MERGED,
};

/// An image, in words.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    /// Debian's packages, with what they depend on.
    pub(super) packages: &'static [&'static str],
    /// What they depend on for installing, or for what nobody here does.
    pub(super) without: &'static [&'static str],
    /// Path, mode and text.
    files: &'static [(&'static str, u32, &'static str)],
    directories: &'static [(&'static str, u32, Owner)],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    user: &'static str,
    working_dir: &'static str,
    stop_signal: &'static str,
    port: &'static str,
    env: &'static [&'static str],
}

const NOTHING: Recipe = Recipe {
    name: "",
    packages: &[],
    without: &[],
    files: &[],
    directories: &[],
    entrypoint: &[],
    command: &[],
    user: "",
    working_dir: "",
    stop_signal: "",
    port: "",
    env: &["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
};

pub(super) const ALL: &[&Recipe] = &[
    &BUSYBOX,
    &GHOST,
    &NGINX,
    &REDIS,
    &POSTGRES,
    &PROMETHEUS,
    &VICTORIA,
    &PYTHON,
];

pub(super) const BUSYBOX: Recipe = Recipe {
    name: "busybox",
    command: &["sh"],
    ..NOTHING
};

pub(super) const GHOST: Recipe = Recipe {
    name: "ghost",
    command: &["sleep", "100000"],
    user: "ghost",
    ..NOTHING
};

pub(super) const NGINX: Recipe = Recipe {
    name: "nginx",
    packages: &["nginx"],
    without: &[
        "debconf",
        "iproute2",
        "libcap2-bin",
        "libbpf1",
        "libelf1",
        "libxtables12",
    ],
    files: &[
        (
            "etc/nginx/nginx.conf",
            0o644,
            include_str!("recipes/nginx.conf"),
        ),
        (
            "etc/nginx/conf.d/default.conf",
            0o644,
            "server {\n    listen 80;\n    location / {\n        root /usr/share/nginx/html;\n    }\n}\n",
        ),
        (
            "usr/share/nginx/html/index.html",
            0o644,
            "<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n",
        ),
    ],
    directories: &[("var/lib/nginx", 0o755, 0), ("var/log/nginx", 0o755, 0)],
    command: &["nginx", "-g", "daemon off;"],
    stop_signal: "SIGQUIT",
    port: "80/tcp",
    ..NOTHING
};

pub(super) const REDIS: Recipe = Recipe {
    name: "redis",
    packages: &["redis-server"],
    without: &[
        "debconf",
        "perl*",
        "libperl*",
        "adduser",
        "passwd",
        "login",
        "lsb-base",
        "sysvinit-utils",
    ],
    directories: &[("data", 0o755, 71)],
    command: &["redis-server", "--protected-mode", "no", "--dir", "/data"],
    user: "redis",
    working_dir: "/data",
    port: "6379/tcp",
    ..NOTHING
};

pub(super) const POSTGRES: Recipe = Recipe {
    name: "postgres",
    packages: &["postgresql-15"],
    without: &[
        "debconf",
        "perl*",
        "libperl*",
        "adduser",
        "passwd",
        "login",
        "lsb-base",
        "sysvinit-utils",
        "libllvm14",
        "libz3-4",
        "ssl-cert",
        "openssl",
        "ucf",
        "sensible-utils",
        "netbase",
        "locales*",
        "dpkg",
        "tar",
        "coreutils",
        "bash",
        "sed",
        "grep",
        "init-system-helpers",
    ],
    files: &[(
        "usr/local/bin/docker-entrypoint.sh",
        0o755,
        include_str!("recipes/postgres.sh"),
    )],
    directories: &[
        ("var/lib/postgresql", 0o755, 70),
        ("var/lib/postgresql/data", 0o777, 70),
        ("var/run/postgresql", 0o777, 70),
    ],
    entrypoint: &["docker-entrypoint.sh"],
    command: &["postgres"],
    stop_signal: "SIGINT",
    port: "5432/tcp",
    env: &[
        // Those in /usr/bin are Perl, which chooses among versions.
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PGDATA=/var/lib/postgresql/data",
    ],
    ..NOTHING
};

pub(super) const PROMETHEUS: Recipe = Recipe {
    name: "prometheus",
    packages: &["prometheus"],
    without: &[
        "adduser",
        "debconf",
        "dpkg",
        "fonts-*",
        "init-system-helpers",
        "javascript-common",
        "libjs-*",
        "libpam*",
        "libperl*",
        "libsemanage*",
        "passwd",
        "perl*",
        "tar",
        "usrmerge",
    ],
    directories: &[("prometheus", 0o777, 65534)],
    entrypoint: &["/usr/bin/prometheus"],
    user: "nobody",
    working_dir: "/prometheus",
    port: "9090/tcp",
    ..NOTHING
};

pub(super) const VICTORIA: Recipe = Recipe {
    name: "victoria",
    packages: &["victoria-metrics"],
    without: &[
        "adduser",
        "debconf",
        "dpkg",
        "libpam*",
        "libsemanage*",
        "passwd",
        "perl*",
        "tar",
        "usrmerge",
    ],
    files: &[(
        "usr/local/bin/prometheus",
        0o755,
        include_str!("recipes/victoria.sh"),
    )],
    directories: &[("prometheus", 0o777, 65534)],
    entrypoint: &["/usr/local/bin/prometheus"],
    user: "nobody",
    working_dir: "/prometheus",
    port: "9090/tcp",
    ..NOTHING
};

pub(super) const PYTHON: Recipe = Recipe {
    name: "python",
    packages: &["python3"],
    without: &["debconf", "media-types", "sensible-utils", "perl*"],
    command: &["python3"],
    ..NOTHING
};

impl Recipe {
    pub(super) fn config(&self) -> Value {
        let mut config = json!({"Env": self.env});
        let lists = [("Entrypoint", self.entrypoint), ("Cmd", self.command)];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            config[field] = json!(list);
        }
        let words = [
            ("User", self.user),
            ("WorkingDir", self.working_dir),
            ("StopSignal", self.stop_signal),
        ];
        for (field, word) in words.into_iter().filter(|(_, word)| !word.is_empty()) {
            config[field] = json!(word);
        }
        if !self.port.is_empty() {
            config["ExposedPorts"] = json!({self.port: {}});
        }
        config
    }

    /// Its own files.
    pub(super) fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        for (path, mode, text) in self.files {
            layer.file(*path, *mode, *text);
        }
        for (path, mode, owner) in self.directories {
            layer.directory(*path, *mode, *owner);
        }
        layer
    }
}

/// The lowest layer of every image: busybox under all its names, users, and what programs expect to be there.
pub(super) fn busybox() -> Layer {
    let mut layer = Layer::default();
    for path in [
        "dev",
        "etc",
        "home",
        "proc",
        "run",
        "sys",
        "usr",
        "usr/local",
        "usr/local/bin",
        "usr/share",
        "var",
        "var/lib",
        "var/log",
    ] {
        layer.directory(path, 0o755, 0);
    }
    for name in MERGED {
        layer.directory(format!("usr/{name}"), 0o755, 0);
        layer.link(*name, format!("usr/{name}"));
    }
    layer.directory("root", 0o700, 0);
    layer.directory("tmp", 0o1777, 0);
    layer.directory("var/tmp", 0o1777, 0);
    layer.link("var/run", "/run");
    let users = [
        ("root", 0, "/root"),
        ("daemon", 1, "/"),
        ("www-data", 33, "/var/www"),
        ("postgres", 70, "/var/lib/postgresql"),
        ("redis", 71, "/data"),
        ("somebody", 1000, "/home"),
        ("nobody", 65534, "/nonexistent"),
    ];
    let (mut passwd, mut group) = (String::new(), String::new());
    for (name, id, home) in users {
        passwd += &format!("{name}:x:{id}:{id}:{name}:{home}:/bin/sh\n");
        group += &format!("{name}:x:{id}:\n");
    }
    group += "staff:x:50:somebody\n";
    layer.file("etc/passwd", 0o644, passwd);
    layer.file("etc/group", 0o644, group);
    layer.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    let listed = Command::new("busybox").arg("--list").output();
    let listed = listed.expect("busybox (busybox-static) runs").stdout;
    for applet in String::from_utf8_lossy(&listed).lines() {
        layer.link(format!("usr/bin/{applet}"), "/usr/bin/busybox");
    }
    layer.file("usr/bin/busybox", 0o755, busybox_program());
    layer
}

/// The machine's own.
pub(super) fn busybox_program() -> Vec<u8> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .expect("busybox (busybox-static) is installed")
}
