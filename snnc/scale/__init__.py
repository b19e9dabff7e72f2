"""Work in many processes, on one machine or on many.

A task is a named function of plain bytes (:mod:`snnc.scale.tasks`). Who runs tasks is an *engine*:
processes of this machine (:mod:`snnc.scale.pool`) or the workers of a dask scheduler
(:mod:`snnc.scale.dask_engine`); both are driven alike by :class:`snnc.scale.workers.Workers`. What a task
gives depends on nothing but its arguments, so that neither the number of workers nor their order, nor what
was lost and done again, changes a result.
"""
