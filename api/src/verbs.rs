//! What can be done with objects: each verb written once, for every kind.
//!
//! Reading order:
//! - [`call`], [`query`], [`accept`], [`answer`] with its [`payload`]: a request and its answer.
//! - [`decode`]: bodies to checked objects. [`metadata`]: what every object has.
//! - [`get`], [`list`], [`watch`] over [`options`], [`filter`] and [`view`]; [`token`] leads from page
//!   to page.
//! - [`create`]; [`change`] and its callers [`update`], [`patch`], [`apply`]; [`delete`],
//!   [`deletecollection`]. [`managed`]: who owns which field after a write. [`transaction`]: applies that commit
//!   together.
//!
//! Every write is a compare-and-swap: read, change, check, commit; again if somebody was faster.

pub(crate) mod accept;
pub(crate) mod answer;
pub(crate) mod apply;
pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod deletecollection;
pub(crate) mod filter;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod managed;
pub(crate) mod metadata;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod payload;
pub(crate) mod query;
pub(crate) mod token;
pub(crate) mod transaction;
pub(crate) mod update;
pub(crate) mod view;
pub(crate) mod watch;
