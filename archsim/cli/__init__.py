"""The command line: one command a file. A command parses, calls a public function and prints its result."""
