//! Build tool: reads the compiled `.wasm` and writes the JavaScript glue and its types beside a
//! smaller `.wasm`, as the `wasm-bindgen` command would.
//!
//! It exists so that a fresh clone needs no tool installed by hand. Living in the workspace, it
//! always has the version of `wasm-bindgen` that the code was compiled with: the libraries pin
//! each other exactly, so Cargo refuses any other pair.
//!
//! Usage: `zerok-sync-wasm-bindgen INPUT.wasm OUTPUT_DIR`

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("usage: zerok-sync-wasm-bindgen INPUT.wasm OUTPUT_DIR");
    };
    Bindgen::new()
        .input_path(&input)
        .web(true)?
        .typescript(true)
        // The package names its own `.wasm` with `new URL(…, import.meta.url)`, in one place.
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(&output)
        .with_context(|| format!("could not write the bindings of {} to {}", input.display(), output.display()))
}
