"""Cases in a process of their own, so that a HAL which hangs or crashes costs one case and not the run.

The supervising pytest process collects, sends cases to a child, at most one ahead, and takes the reports; it never
opens a device. The child (:mod:`.child`) is started fresh, never forked, runs pytest with the same arguments, and is
replaced when it ends or hangs, and after a case that may have spoilt it.

Three things end a hang, each where the one before cannot: the deadline of a wait, in the case itself; the interpreter's
C watchdog, in the child, which needs no lock of the interpreter; and the supervisor, which kills.
"""
