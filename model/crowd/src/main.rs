//! The model's command with room for eight participants: `replay` for what random histories find.

fn main() -> std::process::ExitCode {
    portlock_model_crowd::command::main()
}
