"""Running steps: the executor has one function for each kind, in the file of the stage that plans it.

Each can be run again: a step that was interrupted anywhere is planned again, and finds done what was done already.
"""
