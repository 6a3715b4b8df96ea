import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A second thread costs tiny models more than it gives, above all where two processes share a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
