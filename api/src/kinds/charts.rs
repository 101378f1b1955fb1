//! The group charts.wk.dev: releases of charts that the cluster keeps by itself. A kind of our own: its definition is in
//! `facts/charts-v1-structure.json`.

mod release;

pub(crate) use release::ChartRelease;
