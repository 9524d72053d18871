"""How often a model is right on samples of a task, and whether one is better than another.

task.py        a task's file: samples, each with its right answer
judge.py       an answer beside the right one: 0 to 1
answers.py     the answers, several at once
statistics.py  how sure shares and means are, and differences of two models on the same samples
"""
