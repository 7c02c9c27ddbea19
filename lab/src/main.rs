//! The lab's command line.

fn main() -> std::process::ExitCode {
    lbsidecar_lab::cli::main()
}
