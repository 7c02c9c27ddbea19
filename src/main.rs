//! The program: everything is in the library.

fn main() -> lbsidecar::exit::Exit {
    lbsidecar::cli::main()
}
