//! The flags that set a chart's values, as Helm's commands take them.

use clap::Args;

/// Values for a chart. Files come first, then each kind of flag, in the order of the fields; later ones win.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ValueFlags {
    /// Values in a YAML file or at a URL, `-` for stdin (can be repeated)
    #[arg(short = 'f', long, value_name = "FILE", value_delimiter = ',')]
    pub(super) values: Vec<String>,
    /// Set JSON values (key1=jsonval1,key2=jsonval2, or a whole object; can be repeated)
    #[arg(long, value_name = "PATH=JSON")]
    pub(super) set_json: Vec<String>,
    /// Set values (key1=val1,key2=val2; can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set: Vec<String>,
    /// Set STRING values (key1=val1,key2=val2; can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_string: Vec<String>,
    /// Set values from files (key1=path1,key2=path2; can be repeated)
    #[arg(long, value_name = "PATH=FILE")]
    pub(super) set_file: Vec<String>,
    /// Set a literal STRING value (can be repeated)
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_literal: Vec<String>,
}
