"""A look inside one run, as a page: `python -m qwen_ref inspect`.

- numbers.py  a model and a prompt -> what is shown, as arrays
- page.py     these as one HTML file; page.html is its template, which loads nothing
"""
