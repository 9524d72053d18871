"""Wrong answers that a student may well give to each lesson's exercise, and words of the hint to each.

An answer is made of `n`, the lesson's variables by name.
"""

import numpy as np


def token(v=0.0, g=0.0, beta=1.0):
    return dict(v=np.full(8, v), g=g, beta=beta)


WRONG = {
    "07_delta_rule": [
        (lambda n: token(g=-50.0), "faded too"),
        (lambda n: token(g=1.0), "cannot be positive"),
        (lambda n: dict(v=-n["held"][1], g=0.0, beta=1.0), "negative"),
        (lambda n: token(beta=0.0), "Nothing has changed"),
        (lambda n: token(beta=0.5), "0.50 times"),
        (lambda n: 3, "type and shape"),
    ],
}
