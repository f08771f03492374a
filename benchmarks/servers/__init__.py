"""The other end, in a process and on a core of its own: fixed answers, made beforehand."""
