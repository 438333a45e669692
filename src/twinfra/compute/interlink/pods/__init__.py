"""From a ``v1.Pod`` to a keeper's plan: read, refuse what cannot be honoured, lay files, plan.

``read`` gives a `PodRequest` or an error that names the field; ``volumes`` lays the files of a pod
into its job directory; ``plan`` makes the keeper's plan of one attempt. Nothing is dropped in
silence: a field is honoured, has no meaning at a site, or is refused.
"""
