//! `cargo run -p portlock-model -- check | variants | replay | picture | table`

fn main() -> std::process::ExitCode {
    portlock_model::command::main()
}
