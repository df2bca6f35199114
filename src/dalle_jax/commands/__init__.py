"""One file a command: `run(argv) -> exit code`. Each is imported when it is called, so that `dalle --help` is quick."""
