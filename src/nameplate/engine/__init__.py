"""One case in, one record out: pilot, warm-up, batches, verification, verdict."""
