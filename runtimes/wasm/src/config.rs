//! `wasi:config`: a container's environment variables, which its pod fills from ConfigMaps, Secrets and
//! the like, under the keys that are their names.
//!
//! The interface has no final version yet: all that are in use are offered, which do not differ in these
//! functions.

use wasmtime::{
    Result, StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};

use crate::guest::Guest;

/// Every name that the interface has had.
pub(crate) const INTERFACES: &[&str] = &[
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/runtime@0.2.0-draft",
];

/// Why there is no answer. There always is one.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Answer<T> = std::result::Result<T, Error>;

/// Offers the interface.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    for interface in INTERFACES {
        let mut instance = linker.instance(interface)?;
        instance.func_wrap("get", |store, (key,): (String,)| Ok((get(&store, &key),)))?;
        instance.func_wrap("get-all", |store, (): ()| Ok((get_all(&store),)))?;
    }
    Ok(())
}

/// A variable that is set twice has its last value, as it has for a shell.
fn get(store: &StoreContextMut<'_, Guest>, key: &str) -> Answer<Option<String>> {
    let mut variables = store.data().spec.env.iter().rev();
    let found = variables.find(|(name, _)| name == key);
    Ok(found.map(|(_, value)| value.clone()))
}

fn get_all(store: &StoreContextMut<'_, Guest>) -> Answer<Vec<(String, String)>> {
    Ok(store.data().spec.env.clone())
}
