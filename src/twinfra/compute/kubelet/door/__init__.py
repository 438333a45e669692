"""The kubelet's HTTPS API: what an API server asks a node for logs, commands, ports and figures.

Start at `server.KubeletDoor`. One door serves one node: permissions name the node. It keeps
nothing: who a pod is comes from `ports.PodDoor`, all else from the pod's site over interLink.
"""
