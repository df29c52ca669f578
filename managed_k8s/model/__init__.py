"""Plain data that the stages hand to each other; nothing here reads or changes anything.

Desired is what an operator wants, Observed what there is, a Snapshot both at one moment. A Step is one thing to do; its
kind says what is announced, how long it may take, what it may run beside.
"""
