"""Files of requests, answered by the server's code: requests, answers and results; batch.py runs them."""
