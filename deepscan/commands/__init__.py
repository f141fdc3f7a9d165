"""The commands: each parses its options, calls one function, renders, and gives an exit code. Nothing heavy is imported
before a command runs."""
