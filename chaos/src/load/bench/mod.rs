//! The whole table of figures: `zerok-chaos bench`.
//!
//! Each figure stands beside its goal and is measured on relays and stores of its own. What is
//! compared is measured by turns (A B A B) in one run, medians are taken, and the load average is
//! noted beside each: a busy machine shows. The results go to `docs/performance/` as data and
//! plots; the table is what `docs/PERFORMANCE.md` shows.
//!
//! `--quick` runs everything small. It says nothing about speed; it keeps the measuring itself, and
//! all the checks of [`super::session`], in working order.

mod delivery;
mod idle;
mod plot;
mod push;
mod reading;
mod report;
mod scale;
mod size;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use self::report::{Figure, Results};
use self::scale::{FULL, QUICK, Scale};
use super::conditions::load_average;
use super::rig::Rig;
use super::target::StoreKind;
use crate::processes::binary::relay_binary;

/// Measures every figure that is promised and prints measured against goal.
#[derive(Debug, Clone, Args)]
pub struct BenchOptions {
    /// Everything small, in less than a minute: for keeping the bench itself in order.
    #[arg(long)]
    pub quick: bool,
    /// Only the figures whose id begins so, such as push or idle.
    #[arg(long, value_name = "ID")]
    pub only: Option<String>,
    /// Write results.json and the plots here; figures that were not measured keep their old values.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The relay's binary [default: the one of this workspace and build].
    #[arg(long, value_name = "FILE")]
    pub relay: Option<PathBuf>,
}

/// What all figures are measured with.
struct Bench {
    binary: PathBuf,
    scale: Scale,
    only: Option<String>,
    results: Results,
}

impl Bench {
    fn wants(&self, id: &str) -> bool {
        self.only.as_deref().is_none_or(|only| id.starts_with(only) || only.starts_with(id))
    }

    /// A relay on an empty store of its own.
    async fn rig(&self, kind: StoreKind) -> Result<Rig> {
        Rig::start(kind, &self.binary, &["--log=warn".into()]).await
    }

    fn figure(&mut self, figure: Figure) {
        let figure = Figure { load_average: load_average().unwrap_or_default(), ..figure };
        println!("{figure}");
        self.results.put(figure);
    }
}

/// Runs the bench.
///
/// # Errors
/// When something could not be measured, or a relay did not do as it should. A figure that misses
/// its goal is no error.
pub async fn run(options: &BenchOptions) -> Result<Results> {
    let binary = match &options.relay {
        Some(named) => named.clone(),
        None => relay_binary()?.to_owned(),
    };
    let scale = if options.quick { QUICK } else { FULL };
    let results = options.out.as_deref().map(Results::read).transpose()?.unwrap_or_default();
    let mut bench = Bench { binary, scale, only: options.only.clone(), results };
    push::measure(&mut bench).await?;
    delivery::measure(&mut bench).await?;
    reading::measure(&mut bench).await?;
    idle::measure(&mut bench).await?;
    size::measure(&mut bench).await?;
    let Bench { results, .. } = bench;
    println!("\n{}", results.table());
    if let Some(directory) = &options.out {
        results.write(directory)?;
        plot::draw(&results, directory)?;
    }
    Ok(results)
}

/// Both stores.
const STORES: [StoreKind; 2] = [StoreKind::Sqlite, StoreKind::Postgres];

/// As in ids of figures.
fn tag(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Sqlite => "sqlite",
        StoreKind::Postgres => "postgres",
    }
}

/// How long the disk is asked for its fsync rate.
const FSYNC: Duration = Duration::from_millis(500);
