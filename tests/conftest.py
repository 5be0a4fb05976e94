"""What every test relies on."""

import signal

# A shell starts background jobs with Ctrl-C ignored, and so would be everything that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
