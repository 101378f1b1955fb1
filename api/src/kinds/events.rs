//! The group events.k8s.io: the newer names of an Event's fields.

mod event;

pub(crate) use event::Event;
