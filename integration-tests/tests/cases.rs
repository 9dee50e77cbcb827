//! Every folder under `cases/` is one test. `direct::NAME` is the same case without Aegis, to check the harness.

use aegis_integration_tests::case::Case;
use aegis_integration_tests::runner;
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use std::process::ExitCode;

fn block_on<F: Future<Output = Result<(), String>>>(future: F) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future).map_err(Failed::from)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let cases = match Case::load_all(&root) {
        Ok(cases) if cases.is_empty() => {
            eprintln!("{} holds no cases", root.display());
            return ExitCode::FAILURE;
        }
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for (name, case) in cases {
        if runner::runs_direct(&case) {
            let case = case.clone();
            trials.push(Trial::test(format!("direct::{name}"), move || {
                block_on(runner::run_direct(&case))
            }));
        }
        trials.push(Trial::test(name, move || block_on(runner::run(&case))));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
