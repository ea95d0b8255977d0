"""Where the patient model and its test meet: both see the same module, because both run in one process."""

import threading

OPEN = threading.Event()
"""Set to let a waiting model go on."""
NEVER = threading.Event()
"""Never set: waiting for it takes as long as one says."""
WAITING = threading.Semaphore(0)
"""Released once for each call that has reached the gate."""
STEP = threading.Semaphore(0)
"""Released by the test once for each further part a stepwise model may make."""
MADE = threading.Semaphore(0)
"""Released once for each part that was made."""
CLOSED = threading.Semaphore(0)
"""Released once for each stream that has ended, however it did."""
