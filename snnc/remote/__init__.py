"""The verbs' work in tasks: what runs on workers, and how its parts are put together.

Each module holds a task's function, which runs in a worker, and beside it what hands the tasks out and
joins what comes back, in the order of the rows: the result is that of one process.
"""
