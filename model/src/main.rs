//! `cargo run -p portlock-model -- check | variants | replay | table | mutants`

fn main() -> std::process::ExitCode {
    portlock_model::command::main()
}
