"""Where the patient model and its test meet: both see the same module, because both run in one process."""

import threading

OPEN = threading.Event()
"""Set to let a waiting model go on."""
NEVER = threading.Event()
"""Never set: waiting for it takes as long as one says."""
WAITING = threading.Semaphore(0)
"""Released once for each call that has reached the gate."""
