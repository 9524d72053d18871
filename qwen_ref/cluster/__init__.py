"""One job on many machines: portions.py says who gets what, scheduler.py speaks with dask, and worker.py and
model_files.py are what a worker does. Of what a job computes they know nothing."""
