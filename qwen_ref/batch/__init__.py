"""Files of requests, answered by the server's code: requests.py, answers.py, results.py, and batch.py around them."""
