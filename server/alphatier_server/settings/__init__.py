"""What an operator sets: the file, the command line, the checks, and the watch over files that change."""
