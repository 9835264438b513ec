"""What all tests without a guest share."""

from hypothesis import settings

# An example's wall time says nothing on a shared machine: 200 ms pass while nothing runs.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
