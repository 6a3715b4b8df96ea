"""Look at threads from outside."""

from threading import Thread

import torch


def threads_of_a_new_thread():
    """Give with how many threads torch computes in a thread that starts now."""
    counts = []
    thread = Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return counts[0]
