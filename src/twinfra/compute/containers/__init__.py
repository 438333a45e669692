"""Images, container runtimes and the keeper that runs a pod.

A site makes a `PodPlan` (`keeper/model.py`) whose launches come from a runtime (`bubblewrap.py`,
`proot.py`) over an image that `images/store.py` has unpacked, and gives it to `handle.py`. The
keeper then owns the job's directory:

    plan.json       what the latest start asked for
    lock            flock, held by the keeper as long as it lives: never two attempts at once
    identity.json   which process the keeper is, which control groups it made
    state.json      phases and containers, replaced at each change, its sequence always grows
    stats.json      real figures, at most five periods old; live ones over the socket
    keeper.sock     one JSON line a request (`keeper/door.py`), for the job's owner only
    keeper.log      the keeper's own complaints; empty if all is well
    attempts/<n>/   claimed by making it, so that an attempt is run at most once: its plan, the
                    processes launched, and logs/<container>/<restart>.log in the CRI's format

Everything here is written by rename and may be read at any time, also after the keeper's end.
"""
