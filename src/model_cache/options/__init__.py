"""The options of a cache, checked once, when it is made.

What an option alone shows is refused here. What takes the model's schema is refused by `binding`.
"""
