"""Which commit broke a case, or made a figure what it is: `git bisect run` on a clone of a tree."""
