"""What keeps a machine from playing well, found out by looking: ``musicsyncd doctor``.

A check is a function from a :class:`~musicsyncd.system.doctor.finding.Patient` to its findings, and says of each what
is so and what to do about it. Looking and judging are apart: what judges is given plain values, so that a machine
which nobody has at hand can be judged in a test.
"""
